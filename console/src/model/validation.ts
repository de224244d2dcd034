/** What the standard says of a file, as `sluice hl7 validate` finds it: the crate `sluice-validator`, as WebAssembly. */
export interface Findings {
  messages: number;
  /** How many there are of each severity: infos, warnings, errors. Of a message, only its first 500 are counted here. */
  counts: [number, number, number];
  /** The first of them. */
  findings: Finding[];
  unreadable: { message: number; detail: string }[];
  batchProblems: { code: string; declared?: number; found: number }[];
  /** How many are not listed. */
  more: number;
}

export interface Finding {
  /** The message's number in the file, from 1. */
  message: number;
  /** `PID-3[2].4.1`, or empty. */
  place: string;
  severity: "info" | "warning" | "error";
  code: string;
  /** An English sentence that repeats nothing of the message. */
  detail: string;
}

/** The functions of the module, which imports nothing. */
interface Module {
  memory: WebAssembly.Memory;
  reserve: (bytes: number) => number;
  validate: () => number;
  answer: () => number;
}

let loading: Promise<Module | undefined> | undefined;

async function load(): Promise<Module | undefined> {
  const answer = await fetch("/validator.wasm");
  if (!answer.ok) return undefined;
  const { instance } = await WebAssembly.instantiate(await answer.arrayBuffer());
  return instance.exports as unknown as Module;
}

const UTF_8 = new TextDecoder();

/** Validates a file. Undefined if the page was built without the validation, or the validation itself fails. */
export async function validate(file: Uint8Array): Promise<Findings | undefined> {
  try {
    loading ??= load();
    const module = await loading;
    if (module === undefined) return undefined;
    const at = module.reserve(file.length);
    new Uint8Array(module.memory.buffer, at, file.length).set(file);
    const length = module.validate();
    return JSON.parse(UTF_8.decode(new Uint8Array(module.memory.buffer, module.answer(), length))) as Findings;
  } catch {
    // No network, or a defect of the module, whose memory nobody should trust then. The next file gets a new one.
    loading = undefined;
    return undefined;
  }
}
