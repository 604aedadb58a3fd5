import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"

/** The token of a hold. Absent: the command tells who holds the lock, and changes nothing. */
export const token = Flag.String("token").pipe(
  Flag.withMetavar("<token>"),
  Flag.withDescription("The token of the hold, as inspect shows it. Without it: show who holds the lock"),
  Flag.filterMap(
    (text) => /^\d{1,39}$/.test(text) ? Option.some(BigInt(text)) : Option.none(),
    () => "a whole number, as dlock inspect shows it"
  ),
  Flag.optional
)
