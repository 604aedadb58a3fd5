export { startEtcd, startEtcdCluster } from "./etcd.ts"
export { type Lag, recordLag } from "./lag.ts"
export { describe, find, type Program } from "./programs.ts"
export { type Proxy, startProxy } from "./proxy.ts"
export {
  command,
  type Flavour,
  type Group,
  startCluster,
  startIndependent,
  startRedis,
  startSentinel
} from "./redis.ts"
export { onMessage, report } from "./report.ts"
export { freePorts, type Server } from "./server.ts"
export { startWorker, type Worker, type WorkerOptions } from "./worker.ts"
