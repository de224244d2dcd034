import { useState } from "preact/hooks";
import { signIn } from "../auth/session.js";
import type { Failure } from "../failure.js";
import type { Audience, Settings } from "../settings.js";
import { useTexts } from "../text/index.js";
import { Heading, Trouble } from "./parts.js";

export function SignIn({ settings, failure }: { settings: Settings; failure: Failure | undefined }) {
  const t = useTexts();
  const [going, setGoing] = useState(false);
  const go = (audience: Audience): void => {
    setGoing(true);
    void signIn(audience);
  };
  return (
    <main class="sign-in">
      <Heading>{t.title}</Heading>
      {failure !== undefined && <Trouble failure={failure} />}
      <p>{t.signIn.lead}</p>
      {settings.audiences.map((audience) => (
        <button key={audience.name} type="button" class={audience.name === "institutes" ? "primary" : ""} disabled={going} onClick={() => go(audience)}>
          {audience.name === "institutes" ? t.signIn.institutes : t.signIn.staff}
        </button>
      ))}
      <p class="quiet" role="status">{going ? t.signIn.going : t.signIn.deployment(settings.stack)}</p>
    </main>
  );
}
