import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { HolderInfo, LockInfo } from "../../LockInfo.ts"

/** The holder of the mutex that is the leadership, if anybody leads. */
export const leaderIn = ({ holders, kind }: LockInfo): Option.Option<HolderInfo> =>
  Option.getOrUndefined(kind) === "mutex" ? Option.fromUndefinedOr(holders[0]) : Option.none()

/** Who leads, each time that it is somebody else or nobody. */
export const changesOf = <E, R>(
  states: Stream.Stream<LockInfo, E, R>
): Stream.Stream<Option.Option<HolderInfo>, E, R> =>
  Stream.changesWith(Stream.map(states, leaderIn), (before, now) => tokenOf(before) === tokenOf(now))

const tokenOf = (leader: Option.Option<HolderInfo>): bigint | undefined => Option.getOrUndefined(leader)?.token
