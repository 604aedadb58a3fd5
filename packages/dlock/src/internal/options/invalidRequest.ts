import * as Inspectable from "effect/Inspectable"
import { InvalidLockRequest } from "../../LockError.ts"

/** The error of a call that no backend could honour. The key may be anything that a caller passed. */
export const invalidRequest = (key: unknown, parameter: string, problem: string): InvalidLockRequest =>
  new InvalidLockRequest({ key: Inspectable.toStringUnknown(key, 0).toWellFormed(), parameter, problem })
