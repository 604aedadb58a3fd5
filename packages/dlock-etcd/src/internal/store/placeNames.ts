/** The names of claims' places in their queues. Names are reused. */

import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Base64Url from "effect/encoding/Base64Url"

/** A name in the queue of a key. One claim has it at a time. */
export interface PlaceName {
  readonly key: string
  readonly generation: string
  readonly index: number
}

/** Which names are in use in the queue of one key. */
interface NamesOfKey {
  readonly free: Array<number>
  next: number
  used: number
}

/**
 * The names of this process's places in queues.
 *
 * The server keeps a deleted key until it is compacted, and every read of a queue passes over the deleted keys. A new name for
 * each claim would make a lock slower with each section, so this class reuses a few names.
 *
 * A name is free again when its claim was certainly deleted and no request for the claim can still arrive. If that is
 * uncertain, a new generation of names begins, and no name of the current generation is reused. A key with a name of an earlier
 * generation that belongs to no known claim is therefore a leftover.
 */
export class PlaceNames {
  private generation = freshGeneration()
  private byKey = new Map<string, NamesOfKey>()

  take(key: string): PlaceName {
    let taken = this.byKey.get(key)
    if (taken === undefined) {
      taken = { free: [], next: 0, used: 0 }
      this.byKey.set(key, taken)
    }
    taken.used++
    return { key, generation: this.generation, index: taken.free.pop() ?? taken.next++ }
  }

  free({ generation, key, index }: PlaceName): void {
    const taken = this.byKey.get(key)
    if (generation !== this.generation || taken === undefined) return
    taken.free.push(index)
    if (--taken.used === 0) this.byKey.delete(key)
  }

  /** Begins a new generation of names, because a claim may be left under one of the current names. */
  endGeneration(): void {
    this.generation = freshGeneration()
    this.byKey = new Map()
  }

  isOfThisGeneration(key: string): boolean {
    return key.includes(`/${this.generation}-`) || key.includes(`/~${this.generation}-`)
  }
}

export const textOf = ({ generation, index }: PlaceName): string => `${generation}-${index}`

const freshGeneration = (): string => Base64Url.encode(SecureRandom.randomBytesUnsafe(16))
