/**
 * The claims of runners: who is registered, with which number for its snowflakes, and who was found unhealthy.
 *
 * These claims are renewed here and not by Sharding: they say that the process lives, and no entity runs by them.
 */
import type { HolderState, LockAdmin } from "effect-dlock/LockAdmin"
import { LockBackendError } from "effect-dlock/LockError"
import type { Renewal } from "effect-dlock/LockStore"
import { Runner } from "effect/cluster/Runner"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import type { Claims } from "./claims.ts"
import type { HeldClaim } from "./heldClaim.ts"
import * as Keys from "./keys.ts"
import * as Timing from "./timing.ts"

interface Registration {
  /** What the runner is, as JSON. */
  readonly encoded: string
  /** That nobody else has the address. */
  readonly runner: HeldClaim
  /** The place among all runners. Absent for the moment before it is there. */
  entry: HeldClaim | undefined
}

const claimsOf = ({ entry, runner }: Registration): ReadonlyArray<HeldClaim> =>
  entry === undefined ? [runner] : [runner, entry]

export class Runners {
  private readonly claims: Claims
  private readonly admin: LockAdmin["Service"]
  /** By address, the runners that this process has registered: one, unless a test has more. */
  private readonly registrations = new Map<string, Registration>()
  /**
   * By address, the numbers of their snowflakes. A number is kept when its runner is unregistered, since the process
   * goes on making snowflakes until it has stopped.
   */
  private readonly machines = new Map<string, HeldClaim>()
  /** By address, the marks that this process put on runners that it found unhealthy. */
  private readonly marks = new Map<string, HeldClaim>()
  private readonly warned = new Set<string>()
  /** The addresses of this process that it has lost. Another process may have them now. */
  private readonly lost = new Set<string>()

  constructor(claims: Claims, admin: LockAdmin["Service"]) {
    this.claims = claims
    this.admin = admin
  }

  /** Everything that is held here. */
  held(): ReadonlyArray<HeldClaim> {
    const runners = Array.from(this.registrations.values(), claimsOf)
    return [...runners.flat(), ...this.machines.values(), ...this.marks.values()]
  }

  /**
   * Registers a runner and returns the number of its snowflakes. A repeat confirms what is there.
   *
   * While another process is registered with the address it fails, be that an earlier life of this runner that died
   * without a word: its registration runs out like its shards. Sharding tries again each second.
   */
  register(address: string, runner: Runner, isHealthy: boolean): Effect.Effect<number, LockBackendError> {
    return Effect.gen({ self: this }, function*() {
      const encoded = Runner.encodeSync(runner)
      yield* this.confirmOrDrop(address, encoded)
      if (!this.registrations.has(address)) {
        const isGranted = yield* this.claims.hold(Keys.runner(address), holderOf(address, encoded), (held) => {
          this.registrations.set(address, { encoded, runner: held, entry: undefined })
        })
        if (!isGranted) return yield* this.refuse(address)
      }
      this.warned.delete(address)
      const complete = Effect.andThen(this.takeMachine(address), this.enter(address))
      yield* Effect.onError(complete, () => this.drop(address))
      this.lost.delete(address)
      yield* this.setHealth(address, isHealthy)
      return Number(this.machines.get(address)?.key.slice(Keys.machine(0).length - 1))
    })
  }

  /**
   * After this, a registration or a number that is still there has just been confirmed, and says what it should. Sharding
   * asks for the runners right after it has registered, and registers again without a pause if it is not among them.
   */
  private confirmOrDrop(address: string, encoded: string): Effect.Effect<void, LockBackendError> {
    return Effect.suspend(() => {
      const registration = this.registrations.get(address)
      const machine = this.machines.get(address)
      const held = [
        ...(registration === undefined ? [] : claimsOf(registration)),
        ...(machine === undefined ? [] : [machine])
      ]
      return Effect.flatMap(this.renew(held), (isAnswered) => {
        if (!isAnswered) {
          return Effect.fail(failed("renew", new Error("The lock store did not confirm the registration")))
        }
        return registration !== undefined && registration.encoded !== encoded ? this.unregister(address) : Effect.void
      })
    })
  }

  private refuse(address: string): Effect.Effect<never, LockBackendError> {
    return Effect.suspend(() => {
      const problem = `Another process is registered as the runner ${address}, or was until it died: ` +
        `then its registration ends within ${this.claims.times.ttl + this.claims.times.guardGap} ms`
      // Sharding logs why a registration fails for those who debug it only.
      if (!this.warned.has(address)) this.claims.telemetry.warn(problem)
      this.warned.add(address)
      return Effect.fail(failed("acquire", new Error(problem)))
    })
  }

  /**
   * Takes a number that no process has. It begins anywhere: a process that was paused for too long uses its number until
   * it notices, and a number that was freed lately should not be the next one taken.
   */
  private takeMachine(address: string): Effect.Effect<void, LockBackendError> {
    return Effect.suspend(() => this.machines.has(address) ? Effect.void : this.findMachine(address))
  }

  private findMachine(address: string): Effect.Effect<void, LockBackendError> {
    return Effect.flatMap(Random.nextIntBetween(0, Keys.machines), (first) => {
      const take = (tried: number): Effect.Effect<void, LockBackendError> =>
        tried === Keys.machines
          ? Effect.fail(failed("acquire", new Error(`All ${Keys.machines} machine ids are taken`)))
          : Effect.flatMap(
            this.claims.hold(Keys.machine((first + tried) % Keys.machines), address, (held) => {
              this.machines.set(address, held)
            }),
            (isGranted) => isGranted ? Effect.void : take(tried + 1)
          )
      return take(0)
    })
  }

  /** Takes a place among all runners. */
  private enter(address: string): Effect.Effect<void, LockBackendError> {
    return Effect.suspend(() => {
      const registration = this.registrations.get(address)
      if (registration === undefined || registration.entry !== undefined) return Effect.void
      const holder = holderOf(address, registration.encoded)
      return Effect.asVoid(
        this.claims.hold(Keys.runners, holder, (held) => void (registration.entry = held), "semaphore")
      )
    })
  }

  /** Ends the registration of a runner of this process. Another process's ends with that process. */
  unregister(address: string): Effect.Effect<void, LockBackendError> {
    return Effect.suspend(() => {
      const registration = this.registrations.get(address)
      if (registration === undefined) return Effect.void
      const mark = this.marks.get(address)
      const held = mark === undefined ? claimsOf(registration) : [...claimsOf(registration), mark]
      // A withdrawal whose answer is lost may have been done, so that none of them is renewed from now on.
      this.registrations.delete(address)
      this.marks.delete(address)
      const claims = held.map(({ claim }) => claim)
      return Effect.onError(this.claims.withdraw(claims, () => {}), () => this.claims.withdrawLater(claims))
    })
  }

  private drop(address: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const registration = this.registrations.get(address)
      this.registrations.delete(address)
      this.lost.add(address)
      return registration === undefined
        ? Effect.void
        : this.claims.withdrawLater(claimsOf(registration).map(({ claim }) => claim))
    })
  }

  /**
   * All registered runners, of all processes, and whether they are healthy. An address that this process has lost is not
   * among them, even if another process has it: Sharding registers again only a runner that it does not find.
   */
  get list(): Effect.Effect<Array<readonly [runner: string, isHealthy: boolean]>, LockBackendError> {
    return Effect.all([this.registered, this.marked], { concurrency: "unbounded" }).pipe(
      Effect.tap(([runners]) => this.dropMarksOfOthersThan(runners)),
      Effect.map(([runners, marks]) => {
        const unhealthy = new Set(marks.map(({ holder }) => holder))
        return Array.from(runners).filter(([address]) => !this.lost.has(address))
          .map(([address, runner]) => [runner, !unhealthy.has(address)] as const)
      })
    )
  }

  /** By address, what the registered runners are. */
  private get registered(): Effect.Effect<ReadonlyMap<string, string>, LockBackendError> {
    return Effect.flatMap(
      this.admin.inspect(this.nameOf(Keys.runners)),
      ({ holderCount, holders }) =>
        holderCount <= holders.length
          ? Effect.succeed(new Map(holders.flatMap(runnerOf)))
          : this.registeredInList
    )
  }

  /** One look shows a hundred holders. A cluster with more runners is listed by its addresses. */
  private get registeredInList(): Effect.Effect<ReadonlyMap<string, string>, LockBackendError> {
    return this.admin.list(this.nameOf(Keys.addresses)).pipe(
      Stream.runFold(
        () => new Map<string, string>(),
        (found, { holders }) => {
          for (const [address, runner] of holders.flatMap(runnerOf)) found.set(address, runner)
          return found
        }
      )
    )
  }

  /** The marks of unhealthy runners: of the first hundred, if there ever are more. */
  private get marked(): Effect.Effect<ReadonlyArray<HolderState>, LockBackendError> {
    return Effect.map(this.admin.inspect(this.nameOf(Keys.unhealthy)), ({ holders }) => holders)
  }

  /** A runner that is gone needs no mark. If it comes back, it is judged anew. */
  private dropMarksOfOthersThan(runners: ReadonlyMap<string, string>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const gone = Array.from(this.marks).filter(([address]) => !runners.has(address))
      for (const [address] of gone) this.marks.delete(address)
      return gone.length === 0 ? Effect.void : this.claims.withdrawLater(gone.map(([, { claim }]) => claim))
    })
  }

  /** Marks any runner as unhealthy, or removes its marks, whoever put them there. */
  setHealth(address: string, isHealthy: boolean): Effect.Effect<void, LockBackendError> {
    return Effect.suspend(() => {
      const mark = this.marks.get(address)
      if (isHealthy) {
        this.marks.delete(address)
        return Effect.andThen(
          mark === undefined ? Effect.void : this.claims.withdrawLater([mark.claim]),
          this.breakMarks(address)
        )
      }
      return mark !== undefined ? Effect.void : Effect.asVoid(
        this.claims.hold(Keys.unhealthy, address, (held) => this.marks.set(address, held), "semaphore")
      )
    })
  }

  /** Nothing is protected by a mark, so that breaking one lets nobody in. Its process forgets it at its next renewal. */
  private breakMarks(address: string): Effect.Effect<void, LockBackendError> {
    return Effect.flatMap(this.marked, (marks) =>
      Effect.forEach(
        marks.filter(({ holder }) => holder === address),
        ({ token }) => this.admin.breakLock(this.nameOf(Keys.unhealthy), token),
        { discard: true }
      ))
  }

  private nameOf(key: string) {
    return { key: `${this.claims.prefix}${key}`, prefix: this.claims.prefix }
  }

  /** Asks for a sign of life of the backend, for a runner without shards. */
  get probe(): Effect.Effect<void, LockBackendError> {
    return Effect.asVoid(this.admin.inspect(this.nameOf(Keys.runners)))
  }

  /** Renews everything that is held here, for as long as the storage is open. */
  get keepAlive(): Effect.Effect<never> {
    const { ttl } = this.claims.times
    return Effect.suspend(() => this.renew(this.held())).pipe(
      Effect.flatMap((isAnswered) => Effect.sleep(isAnswered ? Timing.renewalAfter(ttl) : Timing.retryAfter(ttl))),
      Effect.forever
    )
  }

  /** Returns whether all were answered. What is lost is forgotten, and Sharding registers its runner again. */
  private renew(held: ReadonlyArray<HeldClaim>): Effect.Effect<boolean> {
    if (held.length === 0) return Effect.succeed(true)
    return Effect.flatMap(this.claims.renew(held), (answers) => {
      const lost = held.filter((_, index) => isLost(answers[index]!))
      return Effect.as(
        Effect.forEach(lost, (claim) => this.forget(claim), { discard: true }),
        answers.every(({ _tag }) => _tag !== "Unknown")
      )
    })
  }

  private forget(lost: HeldClaim): Effect.Effect<void> {
    return Effect.suspend(() => {
      for (const [address, registration] of this.registrations) {
        if (!claimsOf(registration).includes(lost) && this.machines.get(address) !== lost) continue
        this.claims.telemetry.warn(`The runner ${address} is registered no longer: ${lost.key} was lost`)
        if (this.machines.get(address) === lost) this.machines.delete(address)
        return this.drop(address)
      }
      for (const held of [this.machines, this.marks]) {
        for (const [address, other] of held) if (other === lost) held.delete(address)
      }
      return Effect.void
    })
  }
}

const isLost = ({ _tag }: Renewal): boolean => _tag === "Gone" || _tag === "Replaced" || _tag === "Revoked"

const failed = (operation: "acquire" | "renew", cause: Error): LockBackendError =>
  new LockBackendError({ operation, retryable: true, cause })

/** The text of a holder with metadata, as `Locker.inspect` reads it. */
const holderOf = (address: string, runner: string): string => `${address} ${JSON.stringify({ runner })}`

/** The address of a runner, and what it is. */
const runnerOf = ({ holder }: HolderState): ReadonlyArray<readonly [address: string, runner: string]> => {
  try {
    const brace = holder.indexOf(" {")
    const { runner } = JSON.parse(holder.slice(brace + 1)) as { readonly runner?: unknown }
    return typeof runner === "string" ? [[holder.slice(0, brace), runner]] : []
  } catch {
    return []
  }
}
