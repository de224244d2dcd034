import { useEffect, useState } from "preact/hooks";
import { finishSignIn, isComingBack, type Session } from "../auth/session.js";
import { asFailure, type Failure } from "../failure.js";
import { loadSettings, type Settings } from "../settings.js";
import { LanguageContext, preferred, useTexts, type Language } from "../text/index.js";
import { Trouble } from "./parts.js";
import { Shell, type Theme } from "./shell.js";
import { SignIn } from "./sign-in.js";

interface State {
  settings?: Settings;
  session?: Session;
  failure?: Failure;
}

export function App() {
  const [state, setState] = useState<State>();
  const [language, setLanguage] = useState<Language>(preferred);
  const [theme, setTheme] = useState<Theme>("auto");
  useEffect(() => void start().then(setState), []);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  return (
    <LanguageContext.Provider value={language}>
      {state === undefined ? (
        <Waiting />
      ) : state.session !== undefined ? (
        <Shell session={state.session} {...{ language, setLanguage, theme, setTheme }} />
      ) : state.settings === undefined ? (
        <main>{state.failure !== undefined && <Trouble failure={state.failure} again={() => location.reload()} />}</main>
      ) : (
        <SignIn settings={state.settings} failure={state.failure} />
      )}
    </LanguageContext.Provider>
  );
}

async function start(): Promise<State> {
  let settings: Settings | undefined;
  try {
    settings = await loadSettings();
    return isComingBack() ? { settings, session: await finishSignIn(settings) } : { settings };
  } catch (error) {
    const failure = asFailure(error);
    return settings === undefined ? { failure } : { settings, failure };
  }
}

function Waiting() {
  const t = useTexts();
  return <main><p role="status">{isComingBack() ? t.signIn.finishing : t.loading}</p></main>;
}
