import { renamed } from "../../packages/dlock/src/internal/options/request.ts"
import { Random } from "./random.ts"

/**
 * Makes the ids that the library draws depend on the seed alone. It draws random bytes ahead for many ids at once, so
 * what a former world has left over is used up first.
 */
export const restart = (seed: number): void => {
  random = Random.of(seed, 2)
  fills = 0
  while (fills === 0) renamed({} as never)
}

let random = new Random(0)
let fills = 0

globalThis.crypto.getRandomValues = <A extends ArrayBufferView>(array: A): A => {
  fills++
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  for (let index = 0; index < bytes.length; index++) bytes[index] = random.between(0, 255)
  return array
}
