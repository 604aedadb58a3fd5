import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** What a log line carries besides its text: the key that it is about, if any, and facts for machines. */
export interface Annotations {
  readonly key?: string | undefined
  readonly [name: string]: unknown
}

/**
 * Writes log lines from any callback, in the context of the program that made the locker or the store: with its
 * loggers, its log level and its annotations. Only this folder calls `Effect.log…`, and lint checks that.
 */
export class Log {
  private readonly run: (effect: Effect.Effect<void>) => unknown

  constructor(context: Context.Context<never>) {
    this.run = Effect.runForkWith(context)
  }

  info(text: string, annotations?: Annotations): void {
    this.write(Effect.logInfo(text), annotations)
  }

  warn(text: string, annotations?: Annotations): void {
    this.write(Effect.logWarning(text), annotations)
  }

  error(text: string, cause: unknown, annotations?: Annotations): void {
    this.write(Effect.logError(text, cause), annotations)
  }

  private write(line: Effect.Effect<void>, annotations: Annotations = {}): void {
    const { key, ...more } = annotations
    this.run(Effect.annotateLogs(line, { component: "dlock", ...(key !== undefined && { key }), ...more }))
  }
}

/** A log that writes in the context of the caller. */
export const make: Effect.Effect<Log> = Effect.contextWith((context: Context.Context<never>) =>
  Effect.succeed(new Log(context))
)
