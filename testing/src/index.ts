export { makeCertificates } from "./certificates.ts"
export { type Clock, makeClock } from "./clock.ts"
export { type ClusterOptions, startCluster } from "./cluster.ts"
export { addLearner, startEtcd, startEtcdCluster } from "./etcd.ts"
export { enableAuth, jwtTokens, simpleTokens } from "./etcdAuth.ts"
export { etcdctl, etcdctlProgram } from "./etcdctl.ts"
export { startGrpcProxy } from "./grpcProxy.ts"
export { type Lag, recordLag } from "./lag.ts"
export { type MemberProxy, startMemberProxy } from "./memberProxy.ts"
export { describe, find, type Program } from "./programs.ts"
export { type Prometheus, type PrometheusOptions, type Range, type Series, startPrometheus } from "./prometheus.ts"
export { type Proxy, startProxy } from "./proxy.ts"
export {
  command,
  type Flavour,
  flavour,
  type Group,
  startIndependent,
  startRedis,
  startRedisTls,
  startReplicated
} from "./redis.ts"
export { onMessage, report } from "./report.ts"
export { type SentinelGroup, startSentinel } from "./sentinel.ts"
export { freePorts, type Server } from "./server.ts"
export { startWorker, type Worker, type WorkerOptions } from "./worker.ts"
