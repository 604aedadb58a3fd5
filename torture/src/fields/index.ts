import type { With } from "../dimensions.ts"
import * as Cluster from "./cluster.ts"
import * as Etcd from "./etcd.ts"
import type { Field } from "./field.ts"
import * as Redis from "./redis.ts"
import * as Sentinel from "./sentinel.ts"

export const backends = {
  redis: "Redis, one server",
  sentinel: "Redis, primary and replica behind three sentinels",
  cluster: "Redis, cluster of three primaries and three replicas",
  etcd: "etcd, one member",
  etcd3: "etcd, three members"
} as const

export type Backend = keyof typeof backends

const starts: { readonly [Name in Backend]: (dimensions: With) => Promise<Field> } = {
  redis: Redis.startField,
  sentinel: Sentinel.startField,
  cluster: Cluster.startField,
  etcd: (dimensions) => Etcd.startField(1, dimensions),
  etcd3: (dimensions) => Etcd.startField(3, dimensions)
}

export const startField = (backend: Backend, dimensions: With): Promise<Field> => starts[backend](dimensions)
