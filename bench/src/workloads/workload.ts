import type { Backend, Contender } from "../contenders/index.ts"
import type { Counter } from "../measure/requests.ts"
import type { ProcessPool } from "../pool.ts"

/** Where and how a workload is run. */
export interface Setting {
  readonly backend: Backend
  readonly url: string
  readonly port: number
  /** In the order in which they have their turns. */
  readonly contenders: ReadonlyArray<Contender>
  readonly pool: ProcessPool
  readonly requests: Counter
  readonly quick: boolean
  /** Tells how far it is. */
  readonly say: (text: string) => void
}

/** What came out for one contender in one run. */
export interface Outcome {
  readonly contender: string
  /** By the id of a column; absent where it did not come to it. */
  readonly figures: Readonly<Record<string, number>>
  /** How often more were in than the lock allows. */
  readonly violations: number
  /** What its sections failed with. */
  readonly failures: ReadonlyArray<string>
  /** Why figures are missing, or what else must be known of them. */
  readonly remark?: string
}

export interface Column {
  readonly id: string
  readonly title: string
  readonly show: (value: number) => string
}

export interface Workload {
  readonly name: string
  readonly title: string
  /** What is done, for readers. */
  readonly about: string
  readonly backends: ReadonlyArray<Backend>
  readonly columns: ReadonlyArray<Column>
  readonly run: (setting: Setting) => Promise<ReadonlyArray<Outcome>>
}

export const digits = (places: number) => (value: number): string =>
  value.toLocaleString("en", { maximumFractionDigits: places, minimumFractionDigits: places })

/** Two digits that say something, also of what is small. */
export const short = (value: number): string => digits(value < 1 ? 2 : value < 100 ? 1 : 0)(value)
