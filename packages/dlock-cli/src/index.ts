/**
 * The command line of effect-dlock as an Effect, for programs that embed it. As a program it is `dlock`.
 *
 * @since 0.1.0
 */
export { command, run } from "./internal/main.ts"
