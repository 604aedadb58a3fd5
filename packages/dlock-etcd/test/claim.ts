import { Duration } from "effect"
import type { Claim } from "effect-dlock/LockStore"

/** A mutex's claim, for a store that a test asks by itself. */
export const claimOf = (ttl: number, guardGap: number): Claim => ({
  id: "a".repeat(22),
  key: "k",
  prefix: "",
  permits: 1,
  capacity: 1,
  ttl: Duration.millis(ttl),
  guardGap: Duration.millis(guardGap),
  holder: "me"
})
