import { Duration, Effect, Fiber, type Scope, Stream } from "effect"
import type { LockBackendError, LockStore } from "effect-dlock"
import type { Claim, Granted, Renewal, Revocation } from "effect-dlock/LockStore"
import { Redis } from "ioredis"
import type { variants } from "./index.ts"
import { ours, overStore } from "./ours.ts"
import type { Address, Make, Subject } from "./subject.ts"

type Store = LockStore["Service"]

const moment = () => process.hrtime.bigint()

/** Changes every grant, the one that is waited for too. */
const grants = (store: Store, change: (granted: Granted, id: string) => Granted): Store => ({
  ...store,
  request: (claim, mode) =>
    Effect.map(store.request(claim, mode), (answer) =>
      answer._tag === "Granted"
        ? change(answer, claim.id)
        : answer._tag === "Queued"
        ? {
          ...answer,
          granted: Effect.map(answer.granted, (one) => one._tag === "Granted" ? change(one, claim.id) : one)
        }
        : answer)
})

/** A client beside the store's own, for what the store would never do. */
const withClient = (address: Address, tamper: (redis: Redis) => Store): Effect.Effect<Store, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        new Redis({
          port: address.kind === "redis" ? address.port : 0,
          enableOfflineQueue: false,
          maxRetriesPerRequest: 0,
          commandTimeout: 200
        }).on("error", () => {})
      ),
      (redis) => Effect.sync(() => redis.disconnect())
    ),
    tamper
  )

const quietly = <A>(command: () => Promise<A>) => Effect.ignore(Effect.tryPromise(command))

type Tamper = (store: Store, address: Address) => Store | Effect.Effect<Store, never, Scope.Scope>

const tampers: { readonly [Name in keyof typeof variants]?: Tamper } = {
  "no-deadline": (store) => ({
    ...store,
    renew: (held) =>
      Effect.map(
        store.renew(held),
        (answers) =>
          answers.map((answer) =>
            answer._tag === "Unknown" ? { _tag: "Confirmed" as const, confirmedAt: moment() } : answer
          )
      )
  }),

  "deadline-from-reply": (store) => {
    const late = grants(store, (granted) => ({ ...granted, confirmedAt: moment() }))
    return {
      ...late,
      renew: (held) =>
        Effect.map(
          store.renew(held),
          (answers) =>
            answers.map((answer) => answer._tag === "Confirmed" ? { ...answer, confirmedAt: moment() } : answer)
        )
    }
  },

  "twice-the-ttl": (store) => grants(store, (granted) => ({ ...granted, ttl: Duration.times(granted.ttl, 2) })),

  "unconditional-delete": (store, address) =>
    withClient(address, (redis) => {
      const granted = new Set<string>()
      const noting = grants(store, (one, id) => {
        granted.add(id)
        return one
      })
      return {
        ...noting,
        withdraw: (claim) =>
          granted.delete(claim.id)
            ? Effect.andThen(quietly(() => redis.del(claim.key)), store.withdraw(claim))
            : store.withdraw(claim)
      }
    }),

  "renewal-creates": (store, address) =>
    withClient(address, (redis) => ({
      ...store,
      renew: (held) =>
        Effect.flatMap(
          store.renew(held),
          (answers) =>
            Effect.forEach(answers, (answer, index): Effect.Effect<Renewal> => {
              if (answer._tag !== "Gone") return Effect.succeed(answer)
              const { claim, fencingToken } = held[index]!
              const value = `${claim.id}:${fencingToken}:${claim.holder}`
              const time = Math.ceil(Duration.toMillis(claim.ttl) + Duration.toMillis(claim.guardGap))
              const confirmedAt = moment()
              return Effect.tryPromise(() => redis.set(claim.key, value, "PX", time, "NX")).pipe(
                Effect.map((set) => set === "OK" ? { _tag: "Confirmed" as const, confirmedAt } : answer),
                Effect.catch(() => Effect.succeed(answer))
              )
            })
        )
    })),

  "constant-token": (store) => {
    const tokens = new Map<string, bigint>()
    const constant = grants(store, (granted, id) => {
      tokens.set(id, granted.fencingToken)
      return { ...granted, fencingToken: 1n }
    })
    return {
      ...constant,
      renew: (held) =>
        store.renew(held.map(({ claim, fencingToken }) => ({
          claim,
          fencingToken: tokens.get(claim.id) ?? fencingToken
        })))
    }
  },

  "notification-dropped": (store) => ({
    ...store,
    request: (claim, mode) =>
      Effect.map(
        store.request(claim, mode),
        (answer) => answer._tag === "Queued" ? { ...answer, granted: Effect.never } : answer
      )
  }),

  "permits-asked-as-one": (store) => ({
    ...store,
    request: (claim, mode) => store.request(claim.kind === "semaphore" ? { ...claim, permits: 1 } : claim, mode)
  }),

  "larger-capacity-asked": (store) => ({
    ...store,
    request: (claim, mode) => store.request(claim.kind === "semaphore" ? { ...claim, capacity: 4 } : claim, mode)
  }),

  "downgrade-gives-up-the-claim": (store) => ({
    ...store,
    shrink: ({ claim }) => {
      const confirmedAt = moment()
      return Effect.match(store.withdraw(claim), {
        onFailure: (error): Renewal => ({ _tag: "Unknown", error }),
        onSuccess: (): Renewal => ({ _tag: "Confirmed", confirmedAt })
      })
    }
  }),

  "revocation-unheard": (store) => ({
    ...store,
    losses: Stream.filter(store.losses, (one) => !("revocation" in one)),
    renew: (held) =>
      Effect.map(
        store.renew(held),
        (answers) =>
          answers.map((answer) =>
            answer._tag === "Confirmed" ? { _tag: "Confirmed", confirmedAt: answer.confirmedAt } : answer
          )
      )
  }),

  "revoked-claim-believed": (store) => {
    const long = (revocation: Revocation): Revocation => ({ ...revocation, grace: Duration.hours(1) })
    return {
      ...store,
      losses: Stream.map(
        store.losses,
        (one) => "revocation" in one ? { ...one, revocation: long(one.revocation) } : one
      ),
      renew: (held) =>
        Effect.suspend(() => {
          const confirmedAt = moment()
          return Effect.map(store.renew(held), (answers) =>
            answers.map((answer): Renewal =>
              answer._tag === "Revoked"
                ? { _tag: "Confirmed", confirmedAt }
                : answer._tag === "Confirmed" && answer.revocation !== undefined
                ? { ...answer, revocation: long(answer.revocation) }
                : answer
            ))
        })
    }
  },

  "revoked-claim-given-up": (store) => {
    const claims = new Map<string, Claim>()
    return {
      ...store,
      request: (claim, mode) => {
        claims.set(claim.id, claim)
        return store.request(claim, mode)
      },
      losses: Stream.tap(store.losses, (one) => {
        const claim = claims.get(one.id)
        return "revocation" in one && claim !== undefined ? Effect.ignore(store.withdraw(claim)) : Effect.void
      })
    }
  },

  "never-reconnects": (store) => {
    let failure: LockBackendError | undefined
    const request: Store["request"] = (claim, mode) =>
      failure === undefined
        ? Effect.tapError(store.request(claim, mode), (error) => Effect.sync(() => (failure = error)))
        : Effect.fail(failure)
    return { ...store, request: (claim, mode) => Effect.suspend(() => request(claim, mode)) }
  },

  "no-clean-up": (store) => {
    const granted = new Set<string>()
    const noting = grants(store, (one, id) => {
      granted.add(id)
      return one
    })
    return {
      ...noting,
      withdraw: (claim) => granted.delete(claim.id) ? store.withdraw(claim) : Effect.succeed("cancelled")
    }
  }
}

/** A leadership whose lock ends with the call, while its program may go on for a moment. */
const releasedEarly: Make = (address) =>
  Effect.map(ours(address), (subject): Subject => ({
    ...subject,
    lead: ({ failed, guard, name, ttl }, program) =>
      subject.hold({ key: name, ttl, guard, failed, way: "with" }, (handle) =>
        Effect.flatMap(Effect.forkDetach(program(handle)), (fiber) =>
          Effect.onInterrupt(
            Effect.asVoid(Fiber.await(fiber)),
            () =>
              Effect.sync(() => fiber.interruptUnsafe())
          )))
  }))

/** A locker of ours with one rule broken, without a change to what ships. */
export const tampered = (name: keyof typeof variants): Make =>
  name === "leader-released-early" ? releasedEarly : overStore((store, address) => {
    const tampered = tampers[name]!(store, address)
    return Effect.isEffect(tampered) ? tampered : Effect.succeed(tampered)
  })
