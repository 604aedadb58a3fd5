import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import type { OwnershipLost } from "../../LockError.ts"
import type { Ahead, Queued } from "../../LockStore.ts"
import * as Owner from "../options/owner.ts"
import { tracerThrew } from "./events.ts"
import { Log } from "./log.ts"

/** What the spans of a call are about. */
interface Subject {
  /** The keys of the locks as the caller gave them, at least one. */
  readonly keys: ReadonlyArray<string>
  readonly kind: string
}

/**
 * The span under which a caller asks, if it is sampled. Otherwise a lock has no spans: a root span for each section of a tight
 * loop would cost more than the section.
 */
export const parentOf = (
  { cache: { span, tracerEnabled } }: Fiber.Fiber<unknown, unknown>
): Tracer.AnySpan | undefined => span !== undefined && span.sampled && tracerEnabled ? span : undefined

/** The spans of one call: `dlock.acquire`, and what it tells others. */
export class AcquireTrace {
  private readonly span: Tracer.Span
  private readonly parent: Tracer.AnySpan
  private readonly subject: Subject
  private readonly context: Context.Context<never>
  private readonly startedAt: number
  /** The trace context of a holder of this process that is in the way: it may have told the store none. */
  private readonly localHolder: () => string | undefined
  private linked: string | undefined

  constructor(
    span: Tracer.Span,
    parent: Tracer.AnySpan,
    subject: Subject,
    context: Context.Context<never>,
    startedAt: number,
    localHolder: () => string | undefined
  ) {
    this.span = span
    this.parent = parent
    this.subject = subject
    this.context = context
    this.startedAt = startedAt
    this.localHolder = localHolder
  }

  /**
   * What the claim tells others, in the format of the W3C. It names this span, because the span of the hold begins only when
   * the claim is granted, and is exported only when it has ended. This one is there while the lock is held, and what the
   * holder does is beside it in the same trace.
   */
  get traceparent(): string | undefined {
    return safely(this.context, () => {
      const { sampled, spanId, traceId } = this.span
      return sampled ? Owner.traceparentOf(traceId, spanId) : undefined
    })
  }

  /** The caller waits in the queue. */
  queued({ ahead, place }: Pick<Queued, "ahead" | "place">): void {
    if (this.linked !== undefined) return
    this.note("dlock.place", place)
    this.link(ahead())
  }

  /**
   * The caller waits no longer. If somebody else was in the way in the end, there is a link to that one too. Do not call it for
   * a lock that others may hold beside the caller: who holds it now may have come in with the caller.
   */
  waited(ahead: Ahead): void {
    this.link(ahead)
  }

  private note(attribute: string, value: unknown): void {
    safely(this.context, () => this.span.attribute(attribute, value))
  }

  private link({ holder }: Ahead): void {
    const told = holder === undefined ? undefined : Owner.decode(holder).traceparent
    const traceparent = told ?? this.localHolder()
    if (traceparent === undefined || traceparent === this.linked || traceparent === this.traceparent) return
    const span = spanOf(traceparent)
    if (span === undefined) return
    this.linked = traceparent
    safely(this.context, () => this.span.addLinks([{ span, attributes: { "dlock.link": "holder" } }]))
  }

  /** The call got its locks. Ends the span, and begins that of the hold. Absent if the tracer makes none. */
  granted(now: number, token?: bigint): Effect.Effect<HoldTrace | undefined> {
    return Effect.suspend(() => {
      const attributes = { ...attributesOf(this.subject), ...(token !== undefined && { "dlock.token": String(token) }) }
      this.note("dlock.waited_ms", now - this.startedAt)
      if (token !== undefined) this.note("dlock.token", String(token))
      this.end(Exit.void)
      return Effect.matchCause(Effect.makeSpan("dlock.hold", { parent: this.parent, attributes }), {
        onSuccess: (span) => new HoldTrace(span, this.context, this.traceparent),
        onFailure: (cause) => {
          tracerThrew(new Log(this.context), cause)
          return undefined
        }
      })
    })
  }

  /** The call ends without its locks. A call that had them has told how long it waited. */
  notGranted(now: number): void {
    if (this.span.status._tag !== "Ended") this.note("dlock.waited_ms", now - this.startedAt)
  }

  end(exit: Exit.Exit<unknown, unknown>): void {
    end(this.span, exit, this.context)
  }
}

/** The span `dlock.hold`, from the grant to the end of the lease. */
export class HoldTrace {
  readonly span: Tracer.Span
  /** The trace context that the claim tells others. */
  readonly traceparent: string | undefined
  /** How the program under the lock ended. */
  exit: Exit.Exit<unknown, unknown> = Exit.void
  private readonly context: Context.Context<never>

  constructor(span: Tracer.Span, context: Context.Context<never>, traceparent: string | undefined) {
    this.span = span
    this.context = context
    this.traceparent = traceparent
  }

  end(loss: OwnershipLost | undefined): void {
    end(this.span, loss === undefined ? this.exit : Exit.fail(loss), this.context)
  }
}

const end = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>, context: Context.Context<never>): void =>
  safely(context, () => {
    if (span.status._tag === "Ended") return
    const isTimed = Context.get(context, References.TracerTimingEnabled)
    span.end(isTimed ? Context.get(context, Clock.Clock).currentTimeNanosUnsafe() : 0n, exit)
  })

/**
 * Runs a call to the tracer. An error of the tracer, or of what it exports to, is logged: it must not end a call that has
 * just got its lock, because nobody would release that.
 */
const safely = <A>(context: Context.Context<never>, call: () => A): A | undefined => {
  try {
    return call()
  } catch (error) {
    tracerThrew(new Log(context), error)
    return undefined
  }
}

const attributesOf = ({ keys, kind }: Subject): Record<string, unknown> => ({
  "dlock.key": keys[0],
  "dlock.kind": kind,
  ...(keys.length > 1 && { "dlock.keys": keys })
})

/** Runs the acquire of a call under its span, which ends with it at the latest. */
export const acquiring = <A, E, R>(
  call: {
    readonly parent: Tracer.AnySpan
    readonly context: Context.Context<never>
    readonly startedAt: number
  },
  subject: Subject,
  localHolder: () => string | undefined,
  run: (trace: AcquireTrace) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  // The span ends whatever ends the call. `Effect.useSpan` would end a call that has its lock with an error of the tracer.
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.makeSpan("dlock.acquire", { parent: call.parent, attributes: attributesOf(subject) }),
      (span) => {
        const trace = new AcquireTrace(span, call.parent, subject, call.context, call.startedAt, localHolder)
        return Effect.onExit(restore(Effect.suspend(() => run(trace))), (exit) => Effect.sync(() => trace.end(exit)))
      }
    )
  )

/** The renewals and the calls of a lock have no spans of their own. */
export const untraced = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withTracerEnabled(effect, false)

const spanOf = (traceparent: string): Tracer.ExternalSpan | undefined => {
  const [, traceId, spanId, flags] = traceparent.split("-")
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined
  return Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 })
}
