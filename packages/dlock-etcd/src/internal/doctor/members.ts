/** Asks members, one by one, what they tell of themselves and of their cluster. */

import * as Effect from "effect/Effect"
import type { IMemberListResponse, IStatusResponse } from "etcd3"
import { sanitized } from "../client/failure.ts"
import type { Host } from "../client/host.ts"
import type { Settings } from "../options.ts"
import { type Metrics, readMetrics } from "./metrics.ts"

/** An address that was given, or that the cluster tells of. */
export interface Addressed {
  readonly address: string
  readonly host: Host
}

/** What a member tells of itself. */
export interface Member extends Addressed {
  readonly id: string
  readonly version: string
  readonly isLearner: boolean
  /** The id of the leader that it knows. */
  readonly leader: string | undefined
  readonly term: bigint
  readonly dbSize: number
  readonly dbSizeInUse: number
  readonly metrics: Metrics | undefined
}

/** A member as the cluster lists it. */
export interface Listed {
  readonly id: string
  readonly name: string
  readonly urls: ReadonlyArray<string>
  readonly isLearner: boolean
}

/** Milliseconds that one question may take. */
export const patience = 5_000

/** Makes a call on one member, without a second try. */
export const ask = <A>(
  { host }: Addressed,
  service: string,
  method: string,
  request: object,
  limit = patience
): Effect.Effect<A, Error> =>
  Effect.tryPromise({
    try: () => host.call<A>(service, method, request, { deadline: Date.now() + limit }),
    catch: (error) => shortened(sanitized(error))
  }).pipe(
    // A safety net: the transport enforces the deadline too.
    Effect.timeoutOrElse({
      duration: limit + 100,
      orElse: () => Effect.fail(new Error("etcd did not answer in time"))
    })
  )

/** The transport wraps the words of an error into its own. */
const shortened = (error: Error): Error =>
  Object.assign(error, {
    message: error.message
      .replace(/^\d+ [A-Z_]+: /, "")
      .replace(/^No connection established\. Last error: (Error: )?/, "")
      .replace(/\. Resolution note: $/, "")
      // The time at which it tried.
      .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)$/, "")
  })

export const statusOf = (addressed: Addressed, limit?: number): Effect.Effect<IStatusResponse, Error> =>
  ask<IStatusResponse>(addressed, "Maintenance", "status", {}, limit)

/** Asks a member who it is, and reads its metrics if it serves them. */
export const meet = (
  addressed: Addressed,
  { connectTimeout, target }: Settings
): Effect.Effect<Member, Error> =>
  Effect.gen(function*() {
    const [status, metrics] = yield* Effect.all([
      statusOf(addressed, connectTimeout),
      readMetrics(addressed.address, target.credentials)
    ], { concurrency: "unbounded" })
    return {
      ...addressed,
      id: String(status.header.member_id),
      version: status.version,
      isLearner: status.isLearner,
      leader: leaderOf(status),
      term: BigInt(status.raftTerm),
      dbSize: Number(status.dbSize),
      dbSizeInUse: Number(status.dbSizeInUse),
      metrics
    }
  })

export const leaderOf = ({ leader }: IStatusResponse): string | undefined =>
  String(leader) === "0" ? undefined : String(leader)

/** The members by the word of one of them. It is linearizable in newer servers, so that it needs a leader there. */
export const listOf = (addressed: Addressed): Effect.Effect<ReadonlyArray<Listed> | undefined> =>
  Effect.match(ask<IMemberListResponse>(addressed, "Cluster", "memberList", {}), {
    onFailure: () => undefined,
    onSuccess: ({ members }) =>
      members.map(({ ID, clientURLs, isLearner, name }) => ({ id: String(ID), name, urls: clientURLs, isLearner }))
  })
