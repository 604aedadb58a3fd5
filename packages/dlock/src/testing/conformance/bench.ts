import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { LockAdmin } from "../../LockAdmin.ts"
import { Locker, type LockerOptions } from "../../Locker.ts"
import {
  type Answer,
  type Claim,
  type Granted,
  type Held,
  LockStore,
  type Queued,
  type Renewal
} from "../../LockStore.ts"

export type Store = LockStore["Service"]
export type LockerService = Locker["Service"]

/** What the tests need to know about a backend. */
export interface Options {
  readonly client: Effect.Effect<Store, unknown, Scope.Scope>
  readonly admin?: Effect.Effect<LockAdmin["Service"], unknown, Scope.Scope> | undefined
  readonly advance: (duration: Duration.Input) => Effect.Effect<void>
  readonly ttl: Duration.Input
  readonly lateness?: Duration.Input | undefined
  readonly rounds?: number | undefined
}

export interface Case {
  readonly name: string
  readonly run: Effect.Effect<void, unknown, Scope.Scope>
}

export type Body = (bench: Bench) => Effect.Effect<void, unknown, Scope.Scope>

const prefix = "conformance:"

/** Makes the clients, the claims and the time of every test. All durations are milliseconds. */
export class Bench {
  readonly client: Effect.Effect<Store, unknown, Scope.Scope>
  readonly admin: Effect.Effect<LockAdmin["Service"], unknown, Scope.Scope>
  readonly ttl: number
  readonly guardGap: number
  readonly lateness: number
  /** How often a test repeats a race that must never go wrong. */
  readonly rounds: number
  /** The time limit for things that should happen at once, on a busy machine. */
  readonly soon = 2_000
  private readonly move: (duration: Duration.Input) => Effect.Effect<void>

  constructor(options: Options) {
    this.client = options.client
    this.admin = options.admin ?? Effect.sync(() => expect(false, "the option `admin`"))
    this.move = options.advance
    this.ttl = Duration.toMillis(options.ttl)
    this.guardGap = Math.max(100, this.ttl / 10)
    this.rounds = options.rounds ?? 1_000
    this.lateness = Duration.toMillis(options.lateness ?? 0)
  }

  /** How long after its confirmation a claim without renewals must be free. */
  get freeAfter(): number {
    return this.ttl + this.guardGap + this.lateness
  }

  readonly key = (): string => randomText()

  /** A claim for `key` like the claims that a locker makes: of a mutex, or of a semaphore if it has a capacity. */
  readonly claim = (key: string, options?: Partial<Claim>): Claim => ({
    id: randomText(),
    key: prefix + key,
    prefix,
    kind: options?.capacity === undefined ? "mutex" : "semaphore",
    permits: 1,
    capacity: 1,
    ttl: Duration.millis(this.ttl),
    guardGap: Duration.millis(this.guardGap),
    holder: "conformance",
    ...options
  })

  /** A claim with a ttl so long that no expiry can help the test. */
  readonly lasting = (key: string, options?: Partial<Claim>): Claim =>
    this.claim(key, { ttl: Duration.minutes(2), guardGap: Duration.seconds(12), ...options })

  readonly locker = (store: Store, options?: LockerOptions): Effect.Effect<LockerService, unknown, Scope.Scope> =>
    Layer.build(
      Layer.provide(
        Locker.layer({ prefix, defaultTtl: this.ttl, ...options }),
        Layer.succeed(LockStore, store)
      )
    ).pipe(Effect.map(Context.get(Locker)))

  readonly now: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, toMillis)

  readonly advance = (millis: number): Effect.Effect<void> => this.move(Duration.millis(millis))

  /**
   * Lets time pass in steps of 5 milliseconds until the condition holds. Small steps show soon what the server's clock
   * or a fiber did.
   */
  readonly until = (what: string, holds: () => boolean, within = this.soon): Effect.Effect<void> => {
    return Effect.gen({ self: this }, function*() {
      const end = (yield* this.now) + within
      while (!holds()) {
        if ((yield* this.now) > end) return expect(false, what)
        yield* this.advance(5)
      }
    })
  }

  /** Lets time pass until the fiber has ended, and returns its result. */
  readonly drive = <A, E>(fiber: Fiber.Fiber<A, E>, what: string, within = this.soon): Effect.Effect<A, E> =>
    Effect.andThen(
      this.until(what, () => fiber.pollUnsafe() !== undefined, within),
      Effect.suspend(() => fiber.pollUnsafe()!)
    )

  /** Forks an effect and runs it up to its first wait. */
  readonly fork = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
    Effect.forkChild(effect, { startImmediately: true })

  /** Holds a claim and never renews it. */
  readonly hold = (store: Store, claim: Claim): Effect.Effect<Held & { readonly granted: Granted }, unknown> =>
    Effect.map(store.request(claim, "queue"), (answer) => {
      const granted = expectGranted(answer, "a request for a free key")
      return { claim, fencingToken: granted.fencingToken, granted }
    })

  readonly queue = (store: Store, claim: Claim): Effect.Effect<Queued, unknown> =>
    Effect.map(store.request(claim, "queue"), (answer) => {
      if (answer._tag !== "Queued") {
        return expect(false, `a request for a held key to be Queued, but it was ${answer._tag}`)
      }
      return answer
    })

  /** Waits until a queued claim is granted. */
  readonly granted = (
    queued: Queued,
    what: string,
    within = this.soon
  ): Effect.Effect<Granted, unknown, Scope.Scope> => {
    return Effect.gen({ self: this }, function*() {
      const waiting = yield* Effect.forkScoped(queued.granted, { startImmediately: true })
      return expectGranted(yield* this.drive(waiting, what, within), what)
    })
  }

  /** Checks that no claim holds the key or waits for it. */
  readonly expectFree = (store: Store, key: string, after: string): Effect.Effect<void, unknown> => {
    const claim = this.claim(key)
    return Effect.gen(function*() {
      const answer = yield* store.request(claim, "try")
      yield* store.withdraw(claim)
      equal(answer._tag, "Granted", `the answer of a try by another client ${after}`)
    })
  }

  readonly expectHeld = (store: Store, key: string, when: string): Effect.Effect<void, unknown> =>
    Effect.map(
      store.request(this.claim(key), "try"),
      (answer) => equal(answer._tag, "Busy", `the answer of a try by another client ${when}`)
    )

  readonly renewOne = (store: Store, held: Held): Effect.Effect<Renewal> =>
    Effect.map(store.renew([held]), (answers) => {
      equal(answers.length, 1, "the number of answers to the renewal of one claim")
      return answers[0]!
    })
}

export const toMillis = (nanos: bigint): number => Number(nanos) / 1_000_000

const randomText = (): string => Base64Url.encode(SecureRandom.randomBytesUnsafe(16))

export const expectGranted = (answer: Answer, what: string): Granted => {
  if (answer._tag !== "Granted") return expect(false, `${what} to be Granted, but it was ${answer._tag}`)
  return answer
}

/** Throws an error that says what was expected. */
export function expect(holds: false, what: string): never
export function expect(holds: boolean, what: string): void
export function expect(holds: boolean, what: string): void {
  if (!holds) throw new Error(`Expected ${what}`)
}

export const equal = <A>(actual: A, expected: A, what: string): void =>
  expect(show(actual) === show(expected), `${what} to be ${show(expected)}, but it was ${show(actual)}`)

const show = (value: unknown): string =>
  typeof value === "bigint"
    ? `${value}`
    : JSON.stringify(value, (_, part) => typeof part === "bigint" ? `${part}` : part)
