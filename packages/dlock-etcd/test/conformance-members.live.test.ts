import { afterAll, beforeAll } from "@effect/vitest"
import {
  addLearner,
  type Group,
  type MemberProxy,
  type Server,
  startEtcdCluster,
  startMemberProxy
} from "dlock-testing"
import { conformanceOn } from "./conformanceOn.ts"

let cluster: Group | undefined
let learner: Server | undefined
let refuser: MemberProxy | undefined

beforeAll(async () => {
  cluster = await startEtcdCluster(3, ["--strict-reconfig-check=false"])
  learner = await addLearner(cluster)
  refuser = await startMemberProxy(cluster.servers[0]!.port)
  refuser.refuse({ code: 8, message: "etcdserver: too many requests" })
}, 60_000)

afterAll(async () => {
  await Promise.all([cluster, learner, refuser].map(async (one) => await one?.stop()))
})

const members = () => cluster!.servers.map(({ url }) => url)

// The ttl is long, because the hosts share the limit of a call, which is a third of the ttl.
conformanceOn(
  "three members and a learner, which is asked first",
  () => ({ hosts: [learner!.url, ...members()] }),
  "3800 millis"
)

conformanceOn(
  "three members, of which the first has too much to do",
  () => ({ hosts: [refuser!.url, ...members().slice(1)] }),
  "3800 millis"
)
