import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { LockState } from "../../LockAdmin.ts"
import type { LockBackendError } from "../../LockError.ts"
import type { Time } from "../scheduling/time.ts"

/** A lock as the parts of this folder watch it. */
export interface Watched {
  readonly time: Time
  readonly inspect: Effect.Effect<LockState, LockBackendError>
  /** Emits when the lock may have changed. Absent if the backend never says so. */
  readonly changes: Stream.Stream<void> | undefined
}
