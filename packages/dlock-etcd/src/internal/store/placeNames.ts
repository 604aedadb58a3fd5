import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Base64Url from "effect/encoding/Base64Url"

/** A name in a lock's folder, for one claim at a time. */
export interface Slot {
  readonly folder: string
  readonly epoch: string
  readonly index: number
}

/** What of a folder is in use. */
interface Folder {
  readonly free: Array<number>
  next: number
  used: number
}

/**
 * The names under which this process stands in queues.
 *
 * A server keeps the key of what was deleted until it is compacted, and a look at a folder passes them all. So the same
 * few names are used again: a name of its own for each claim would make a lock slower with each section.
 *
 * A name is free again when its claim has been deleted for certain and nothing that could still arrive speaks of it.
 * Where that is not known, none of the present names is used for another claim: the epoch ends. So what is found under a
 * name of an ended epoch, and belongs to no claim that is known, is nobody's.
 */
export class Slots {
  private epoch = freshEpoch()
  private folders = new Map<string, Folder>()

  take(folder: string): Slot {
    let taken = this.folders.get(folder)
    if (taken === undefined) {
      taken = { free: [], next: 0, used: 0 }
      this.folders.set(folder, taken)
    }
    taken.used++
    return { folder, epoch: this.epoch, index: taken.free.pop() ?? taken.next++ }
  }

  free({ epoch, folder, index }: Slot): void {
    const taken = this.folders.get(folder)
    if (epoch !== this.epoch || taken === undefined) return
    taken.free.push(index)
    if (--taken.used === 0) this.folders.delete(folder)
  }

  /** Something may be left under one of the names. */
  endEpoch(): void {
    this.epoch = freshEpoch()
    this.folders = new Map()
  }

  isOfThisEpoch(key: string): boolean {
    return key.includes(`/${this.epoch}-`)
  }
}

export const nameOf = ({ epoch, index }: Slot): string => `${epoch}-${index}`

const freshEpoch = (): string => Base64Url.encode(SecureRandom.randomBytesUnsafe(16))
