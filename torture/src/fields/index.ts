import type { Backend } from "../backends.ts"
import type { With } from "../dimensions.ts"
import * as Cluster from "./cluster.ts"
import * as Etcd from "./etcd.ts"
import type { Field } from "./field.ts"
import * as Redis from "./redis.ts"
import * as Sentinel from "./sentinel.ts"

const starts: { readonly [Name in Backend]: (dimensions: With) => Promise<Field> } = {
  redis: Redis.startField,
  sentinel: Sentinel.startField,
  cluster: Cluster.startField,
  etcd: (dimensions) => Etcd.startField(1, dimensions),
  etcd3: (dimensions) => Etcd.startField(3, dimensions)
}

export const startField = (backend: Backend, dimensions: With): Promise<Field> => starts[backend](dimensions)
