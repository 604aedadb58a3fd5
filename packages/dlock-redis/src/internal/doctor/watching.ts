/** Watches a server for a while: how fast it answers, and what its clock does. */

import type { Finding } from "effect-dlock/Diagnosis"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Ask } from "../client/port.ts"

/** One question for the server's time. All times are in milliseconds. */
export interface Sample {
  /** When it was sent, on our monotonic clock. */
  readonly sentAt: number
  readonly trip: number
  /** The server's wall clock, if it told that. */
  readonly server: number | undefined
  /** Our own wall clock, half way. */
  readonly own: number
}

/** How many questions an observation has. */
const questions = 200

/** Asks for the time, at even intervals for as long as the observation. A question without an answer counts as long. */
export const watch = (ask: Ask, observation: number): Effect.Effect<ReadonlyArray<Sample>> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
    const samples: Array<Sample> = []
    const until = now() + observation
    do {
      const [sentAt, before] = [now(), clock.currentTimeMillisUnsafe()]
      // Whoever may not ask for the time may still ping.
      const reply = yield* Effect.catch(ask("TIME"), () => Effect.orElseSucceed(ask("PING"), () => undefined))
      const trip = now() - sentAt
      const [seconds, micros] = Array.isArray(reply) ? reply : []
      samples.push({
        sentAt,
        trip,
        server: seconds === undefined ? undefined : Number(seconds) * 1_000 + Number(micros) / 1_000,
        own: (before + clock.currentTimeMillisUnsafe()) / 2
      })
      yield* Effect.sleep(Math.max(0, observation / questions - trip))
    } while (now() < until)
    return samples
  })

type Timed = Sample & { readonly server: number }

/** By how much the server's wall clock is ahead of ours, from the answer that came soonest: that one is the surest. */
const offsetOf = (samples: ReadonlyArray<Timed>): { readonly ahead: number; readonly give: number } | undefined => {
  const [best] = samples.toSorted((one, other) => one.trip - other.trip)
  return best && { ahead: best.server - best.own, give: best.trip / 2 + 1 }
}

/**
 * The largest step of the server's clock against our monotonic one. An answer tells the server's time only to half of its
 * round trip, and a clock may be slewed, so that less than that is no step.
 */
const stepOf = (samples: ReadonlyArray<Timed>): number => {
  let step = 0
  let [most, least] = [-Infinity, Infinity]
  for (const { sentAt, server, trip } of samples) {
    const difference = server - (sentAt + trip / 2)
    const [low, high] = [difference - trip / 2, difference + trip / 2]
    const forward = low - least
    const back = most - high
    if (Math.max(forward, back) > Math.abs(step)) step = forward > back ? forward : -back
    most = Math.max(most, low)
    least = Math.min(least, high)
  }
  return Math.abs(step) > slewed ? step : 0
}

/** The milliseconds of a clock that is slewed, within an observation. */
const slewed = 50

/** From how many milliseconds on a distance of the two clocks is told. */
const distant = 1_000

const signed = (millis: number): string => `${millis < 0 ? "-" : "+"}${Math.round(Math.abs(millis))} ms`

export const clockFindings = (subject: string, samples: ReadonlyArray<Sample>): ReadonlyArray<Finding> => {
  const timed = samples.filter((sample): sample is Timed => sample.server !== undefined)
  const offset = offsetOf(timed)
  if (offset === undefined) {
    return [{ check: "clock", severity: "note", subject, seen: "the server does not tell its time (+time)" }]
  }
  const step = stepOf(timed)
  const seconds = (timed.at(-1)!.sentAt - timed[0]!.sentAt) / 1_000
  const isDistant = Math.abs(offset.ahead) - offset.give > distant
  return [
    {
      check: "clock",
      severity: isDistant ? "warning" : "ok",
      subject,
      seen: `the server's clock is ${signed(offset.ahead)} (give or take ${Math.ceil(offset.give)} ms) from ours`,
      ...(isDistant && {
        why:
          "one of the two clocks is wrong; when the server's is put right in a step, locks end early or stay too long",
        fix:
          "run chrony or ntpd on both machines, and let them slew: no steps while locks are held (chronyc makestep once)"
      })
    },
    step === 0
      ? {
        check: "clock-step",
        severity: "ok",
        subject,
        seen: `no step of the server's clock in ${seconds.toFixed(1)} s`
      }
      : {
        check: "clock-step",
        severity: "error",
        subject,
        seen: `the server's clock made a step of ${signed(step)} within ${seconds.toFixed(1)} s`,
        why: "the server counts a lock's time by its wall clock: a step forward ends locks that are held, " +
          "a step back makes a dead holder block others for longer",
        fix: "let only one program set the clock, and slew it (chrony without makestep, ntpd -x); " +
          "see whether the virtual machine is suspended or moved"
      }
  ]
}
