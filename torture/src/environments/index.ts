import type { Backend } from "../backends.ts"
import type { With } from "../dimensions.ts"
import * as Cluster from "./cluster.ts"
import type { Environment } from "./environment.ts"
import * as Etcd from "./etcd.ts"
import * as Redis from "./redis.ts"
import * as Sentinel from "./sentinel.ts"

const starts: { readonly [Name in Backend]: (dimensions: With) => Promise<Environment> } = {
  redis: Redis.startEnvironment,
  sentinel: Sentinel.startEnvironment,
  cluster: Cluster.startEnvironment,
  etcd: (dimensions) => Etcd.startEnvironment(1, dimensions),
  etcd3: (dimensions) => Etcd.startEnvironment(3, dimensions)
}

export const startEnvironment = (backend: Backend, dimensions: With): Promise<Environment> =>
  starts[backend](dimensions)
