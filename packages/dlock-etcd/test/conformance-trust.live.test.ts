import { afterAll, beforeAll } from "@effect/vitest"
import { enableAuth, type Server, simpleTokens, startEtcd, startGrpcProxy } from "dlock-testing"
import { conformanceOn } from "./conformanceOn.ts"

let guarded: Server | undefined
let behind: Server | undefined
let proxy: Server | undefined

beforeAll(async () => {
  guarded = await startEtcd(simpleTokens(2))
  await enableAuth(guarded.url)
  behind = await startEtcd()
  proxy = await startGrpcProxy([behind.url])
}, 60_000)

afterAll(async () => {
  await Promise.all([guarded, proxy, behind].map(async (one) => await one?.stop()))
})

conformanceOn(
  "an etcd that asks who one is, with tokens of two seconds",
  // As root, because the cases use keys without a common prefix.
  () => ({ hosts: guarded!.url, username: "root", password: "toor" }),
  "1800 millis"
)

// A lease of two seconds is too short here: the proxy sends keep-alives twice a second, whenever the client asks for one.
conformanceOn("an etcd behind its own proxy", () => ({ hosts: proxy!.url }), "3800 millis")
