import * as Effect from "effect/Effect"

/**
 * Makes the two forms of a call from one that takes its program at the position `at`, with options behind it: the program
 * in its place, or piped in. A program is an effect or a function, and options are neither.
 */
export const callForms = (at: number, run: (...args: ReadonlyArray<any>) => Effect.Effect<any, any, any>): any =>
(
  ...args: ReadonlyArray<unknown>
) =>
  Effect.isEffect(args[at]) || typeof args[at] === "function"
    ? run(...args)
    : (program: unknown) => run(...args.slice(0, at), program, args[at])
