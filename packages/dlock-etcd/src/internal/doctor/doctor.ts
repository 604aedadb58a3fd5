/** Examines the members of a cluster: reads, watches and judges. It takes no lock. */

import * as Diagnosis from "effect-dlock/Diagnosis"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IAlarmResponse, ILeaseGrantResponse } from "etcd3"
import { probe } from "../client/connection.ts"
import { isLasting, isTooLarge } from "../client/failure.ts"
import { connect } from "../client/host.ts"
import type { Settings } from "../options.ts"
import * as Cluster from "./clusterRules.ts"
import { judge } from "./memberRules.ts"
import * as Members from "./members.ts"
import { speaksTls } from "./metrics.ts"
import { permissionFinding, tokenFinding } from "./user.ts"

/** What an examination is about, in milliseconds. */
export interface Examination {
  readonly prefix: string
  readonly ttl: number
  readonly observation: number
}

type Finding = Diagnosis.Finding

/** What became of asking an address. */
type Met = { readonly member: Members.Member } | { readonly absent: Cluster.Absent }

export const examine = (settings: Settings, examination: Examination): Effect.Effect<Diagnosis.Diagnosis> =>
  Effect.gen(function*() {
    const { target } = settings
    const given = typeof target.hosts === "string" ? [target.hosts] : target.hosts
    const first = yield* meetAll(given, settings)
    const { absent, members } = parted(first)
    const [one] = members
    if (one === undefined) {
      const cause = causeOf(absent)
      const isTls = !given[0]?.startsWith("https:") && (yield* speaksTls(given[0] ?? ""))
      return Diagnosis.unreachable(
        given.join(","),
        isTls
          ? new Error(`${cause.message}: this port answers with TLS, and the address does not begin with https:`)
          : cause
      )
    }
    // A member tells its state to anybody. Only a request about a key is checked.
    const asked = yield* Effect.flip(Members.ask(one, "KV", "txn", probe)).pipe(Effect.orElseSucceed(() => undefined))
    if (asked !== undefined && /user name is empty/.test(asked.message)) {
      return Diagnosis.unreachable(one.address, asked)
    }
    const listed = yield* Members.listOf(one)
    const behindProxy = listed !== undefined && Cluster.isProxy(listed)
    const unnamed = listed === undefined || behindProxy
      ? []
      : yield* meetUnnamed(listed, members, given, absent, settings)
    const others = parted(unnamed)
    const all = [...members, ...others.members]
    const together = listed === undefined || behindProxy
      ? undefined
      : Cluster.membersFinding(all, listed, [...absent, ...others.absent])
    // Without a majority nobody serves, and the members may not know it yet. A learner answers next to nothing.
    const canServe = members.filter(({ isLearner, leader }) => !isLearner && leader !== undefined)
    const [serving] = together?.severity === "error" ? [] : canServe
    return {
      findings: [
        ...all.filter((member) => !member.isLearner || members.includes(member)).flatMap(judge),
        ...present(together),
        ...present(Cluster.versionsFinding(all)),
        ...present(behindProxy ? Cluster.proxyFinding(examination.ttl) : Cluster.unnamedFinding(given, all)),
        ...(serving === undefined
          ? [{
            check: "service",
            severity: "error" as const,
            seen: "none of the hosts can serve a lock",
            why: "every lock is refused",
            fix: "name voting members that have a leader in DLOCK_ETCD_HOSTS"
          }]
          : [
            ...(yield* examineService(serving, settings, examination, asked)),
            ...(yield* observe(canServe, settings, examination, all))
          ]),
        clockFinding
      ]
    }
  }).pipe(Effect.scoped)

const present = <A>(value: A | undefined): ReadonlyArray<A> => value === undefined ? [] : [value]

/** The error that says most: a refusal of our user before anything about the network. */
const causeOf = (absent: ReadonlyArray<Cluster.Absent>): Error =>
  (absent.find(({ cause }) => isLasting(cause)) ?? absent[0])?.cause ?? new Error("no host was given")

const meetAll = (
  addresses: ReadonlyArray<string>,
  settings: Settings
): Effect.Effect<ReadonlyArray<Met>, never, Scope.Scope> =>
  Effect.forEach(addresses, (address) =>
    connect(settings.target, address).pipe(
      Effect.mapError(({ cause }) => cause as Error),
      Effect.flatMap((host) => Members.meet({ address, host }, settings)),
      Effect.match({
        onSuccess: (member): Met => ({ member }),
        onFailure: (cause): Met => ({ absent: { address, cause } })
      })
    ), { concurrency: "unbounded" })

const parted = (met: ReadonlyArray<Met>) => ({
  members: met.flatMap((one) => "member" in one ? [one.member] : []),
  absent: met.flatMap((one) => "absent" in one ? [one.absent] : [])
})

/** Asks the members that the cluster lists and that are not among the hosts. */
const meetUnnamed = (
  listed: ReadonlyArray<Members.Listed>,
  members: ReadonlyArray<Members.Member>,
  given: ReadonlyArray<string>,
  absent: ReadonlyArray<Cluster.Absent>,
  settings: Settings
): Effect.Effect<ReadonlyArray<Met>, never, Scope.Scope> => {
  const known = new Set(members.map(({ id }) => id))
  const isGiven = (url: string): boolean =>
    given.some((address) => address.replace(/^https?:\/\//, "") === url.replace(/^https?:\/\//, ""))
  const away = new Set(absent.map(({ address }) => address))
  const addresses = listed.flatMap(({ id, isLearner, urls }) =>
    known.has(id) || isLearner || urls.length === 0 || urls.some((url) => isGiven(url) || away.has(url))
      ? []
      : [urls[0]!]
  )
  return meetAll(addresses, settings)
}

/** What only a member that serves can tell. */
const examineService = (
  serving: Members.Member,
  { target }: Settings,
  { prefix, ttl }: Examination,
  asked: Error | undefined
): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.gen(function*() {
    const alarms = yield* Effect.match(
      Members.ask<IAlarmResponse>(serving, "Maintenance", "alarm", { action: "Get" }),
      {
        onFailure: () => undefined,
        onSuccess: ({ alarms }) => Cluster.alarmFinding(alarms.map(({ alarm }) => String(alarm)))
      }
    )
    const user = target.auth?.username
    return [
      ...present(alarms),
      ...present(yield* permissionFinding(serving, prefix, user)),
      ...(target.auth === undefined ? [] : present(yield* tokenFinding(serving, target.auth))),
      ...present(asked !== undefined && isTooLarge(asked) ? tooFewOperations : undefined),
      ...present(yield* leaseFinding(serving, ttl))
    ]
  })

const clockFinding: Finding = {
  check: "clock",
  severity: "ok",
  seen: "does not matter: etcd counts the time of leases by the leader's monotonic clock"
}

const tooFewOperations: Finding = {
  check: "max-txn-ops",
  severity: "error",
  seen: "the server refuses a transaction of nine operations",
  why: "acquiring a lock that is held takes as many",
  fix: "start the members with --max-txn-ops=128, the default"
}

/** The shortest lease that the cluster grants, which its election timeout decides. */
const leaseFinding = (serving: Members.Member, ttl: number): Effect.Effect<Finding | undefined> =>
  Effect.gen(function*(): Effect.fn.Return<Finding, Error> {
    const { ID, TTL } = yield* Members.ask<ILeaseGrantResponse>(serving, "Lease", "leaseGrant", { TTL: 1 })
    yield* Effect.ignore(Members.ask(serving, "Lease", "leaseRevoke", { ID }))
    const least = Number(TTL)
    const seen = `the shortest lease is ${least} s`
    return least * 1_000 <= ttl ? { check: "lease", severity: "ok", seen } : {
      check: "lease",
      severity: "warning",
      seen: `${seen}, and the ttl is ${ttl / 1_000} s`,
      why: "the server raises every lease to that: a dead holder blocks others for longer than its ttl",
      fix: "use a longer ttl, or a shorter --election-timeout (the shortest lease is one and a half of it)"
    }
  }).pipe(Effect.orElseSucceed(() => undefined))

/** How many questions an observation has. */
const questions = 200

/** How many milliseconds pass between two looks at the leadership. */
const glance = 100

/** Watches latency and leadership. */
const observe = (
  members: ReadonlyArray<Members.Member>,
  { operationTimeout }: Settings,
  { observation, prefix, ttl }: Examination,
  all: ReadonlyArray<Members.Member>
): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
    const start = now()
    const terms = new Set(members.slice(0, 1).map(({ term }) => String(term)))
    const leaders = new Set(members.slice(0, 1).flatMap(({ leader }) => leader ?? []))
    const read = { key: Buffer.from(`${prefix}dlock-doctor`), keys_only: true }

    const measure = (member: Members.Member) =>
      Effect.gen(function*() {
        const trips: Array<number> = []
        let ownLag = 0
        do {
          const sentAt = now()
          // A refusal is an answer too.
          yield* Effect.ignore(Members.ask(member, "KV", "range", read, operationTimeout))
          trips.push(now() - sentAt)
          const pause = Math.max(1, observation / questions - trips.at(-1)!)
          const sleptAt = now()
          yield* Effect.sleep(pause)
          ownLag = Math.max(ownLag, now() - sleptAt - pause)
        } while (now() < start + observation)
        return Diagnosis.latency({ subject: member.address, trips, ownLag, ttl, operationTimeout })
      })

    const look = Effect.gen(function*() {
      const [asked] = members
      do {
        const status = yield* Effect.orElseSucceed(Members.statusOf(asked!), () => undefined)
        if (status !== undefined) {
          terms.add(String(status.raftTerm))
          const leader = Members.leaderOf(status)
          if (leader !== undefined) leaders.add(leader)
        }
        yield* Effect.sleep(glance)
      } while (now() < start + observation)
    })

    const [latencies] = yield* Effect.all([
      Effect.forEach(members, measure, { concurrency: "unbounded" }),
      look
    ], { concurrency: "unbounded" })
    const seconds = (now() - start) / 1_000
    return [...latencies, Cluster.leadershipFinding({ terms, leaders, seconds }, all)]
  })
