import * as Option from "effect/Option"
import type { LockState } from "../../LockAdmin.ts"
import type { LockKind } from "../../LockError.ts"
import type { HolderInfo, LockInfo } from "../../LockInfo.ts"
import type { IsNews } from "../admin/watch.ts"

/** The holder of the mutex that is the leadership, if anybody leads. */
export const leaderIn = ({ holders, kind }: LockInfo): Option.Option<HolderInfo> =>
  Option.fromUndefinedOr(leaderOf(Option.getOrUndefined(kind), holders))

const leaderOf = <Holder>(kind: LockKind | undefined, holders: ReadonlyArray<Holder>): Holder | undefined =>
  kind === "mutex" ? holders[0] : undefined

/**
 * The news for those who want to know who leads: somebody else, or nobody. Other changes, such as the renewals, would fill
 * the queue of a consumer that is slow, and it would miss what it waits for.
 */
export const changesOfLeader = (): IsNews => {
  let told: bigint | "nobody" | undefined
  return ({ holders, kind }: LockState) => {
    const before = told
    told = leaderOf(kind, holders)?.token ?? "nobody"
    return told !== before
  }
}
