import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { asFailure, type Failure } from "../failure.js";

/** The state of loading: nothing yet, a value, or a failure. A value stays while it is loaded again. */
export interface Loaded<Value> {
  value?: Value;
  failure?: Failure;
  busy: boolean;
  again: () => void;
}

/**
 * Loads when `keys` change and when asked to. The answer to an older question is dropped. When a refresh fails, the old value stays.
 * `load` gets the value that these keys already have.
 */
export function useLoaded<Value>(load: (known: Value | undefined) => Promise<Value>, keys: unknown[]): Loaded<Value> {
  const [state, setState] = useState<{ value?: Value; failure?: Failure; busy: boolean }>({ busy: true });
  const turn = useRef(0);
  /** The value of these keys, and not of the previous ones. */
  const known = useRef<Value | undefined>(undefined);
  const again = useCallback(() => {
    const mine = ++turn.current;
    setState(({ value }) => (value === undefined ? { busy: true } : { value, busy: true }));
    load(known.current).then(
      (value) => {
        if (mine !== turn.current) return;
        known.current = value;
        setState({ value, busy: false });
      },
      (error: unknown) => {
        if (mine !== turn.current) return;
        const failure = asFailure(error);
        setState(({ value }) => (known.current !== undefined && value !== undefined ? { value, failure, busy: false } : { failure, busy: false }));
      },
    );
  }, keys);
  useEffect(() => {
    known.current = undefined;
    again();
    return () => {
      turn.current++;
    };
  }, [again]);
  return { ...state, again };
}

/** Calls at this interval in milliseconds while the page is visible. */
export function useEvery(milliseconds: number, call: () => void): void {
  const latest = useRef(call);
  latest.current = call;
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") latest.current();
    }, milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds]);
}
