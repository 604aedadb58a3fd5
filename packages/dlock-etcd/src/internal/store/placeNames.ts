/** Names for the places of claims in their queues, used one after the other. */

import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Base64Url from "effect/encoding/Base64Url"

/** A name in the queue of a key, for one claim at a time. */
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
 * The names under which claims of this process stand in queues.
 *
 * A server keeps a deleted key until it is compacted, and a look at a queue passes them all. So the same few names are used
 * again: a new name for each claim would make a lock slower with each section.
 *
 * A name is free again when its claim has been deleted for certain, and no request for it can still arrive. Where that is not
 * known, none of the present names is used again: a new generation of names begins. So what is found under a name of an
 * earlier generation, and belongs to no claim that is known, is left over.
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

  /** Begins a new generation of names, since something may be left under one of the present ones. */
  endGeneration(): void {
    this.generation = freshGeneration()
    this.byKey = new Map()
  }

  isOfThisGeneration(key: string): boolean {
    return key.includes(`/${this.generation}-`)
  }
}

export const textOf = ({ generation, index }: PlaceName): string => `${generation}-${index}`

const freshGeneration = (): string => Base64Url.encode(SecureRandom.randomBytesUnsafe(16))
