import * as Effect from "effect/Effect"

/** Every line of this library says which component wrote it and about which key. */
export const logged = <A, E, R>(effect: Effect.Effect<A, E, R>, key: string): Effect.Effect<A, E, R> =>
  Effect.annotateLogs(effect, { component: "dlock", key })
