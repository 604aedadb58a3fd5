import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { etcdctl } from "./etcdctl.ts"

/** The cheapest hash that etcd accepts, so that a login does not occupy a core for a tenth of a second. */
const cheap = "--bcrypt-cost=4"

/**
 * Arguments for etcd's simple tokens. A member keeps them in memory and forgets one that nobody has used for
 * `ttlSeconds`, give or take a second; each use starts that time again.
 */
export const simpleTokens = (ttlSeconds: number): ReadonlyArray<string> => [`--auth-token-ttl=${ttlSeconds}`, cheap]

/**
 * Arguments for signed tokens, which end `ttlSeconds` after they were issued, used or not, and with every change of
 * users, roles or permissions. The key pair is new, and is removed as this process ends; give all members of a cluster
 * the same arguments.
 */
export const jwtTokens = (ttlSeconds = 10): ReadonlyArray<string> => {
  const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-jwt-"))
  process.once("exit", () => Fs.rmSync(dir, { recursive: true, force: true }))
  const pair = Crypto.generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" }
  })
  const write = (name: string, text: string): string => {
    const file = Path.join(dir, name)
    Fs.writeFileSync(file, text)
    return file
  }
  const keys = `pub-key=${write("public.pem", pair.publicKey)},priv-key=${write("private.pem", pair.privateKey)}`
  return [`--auth-token=jwt,${keys},sign-method=RS256,ttl=${ttlSeconds}s`, cheap]
}

/**
 * Enables authentication. Makes `root:toor`, who may do everything, and `users` with their passwords, who may read and
 * write keys that begin with `dlock:`, by way of the role `locks`.
 */
export const enableAuth = async (
  url: string,
  { users = { app: "right" } }: { readonly users?: Readonly<Record<string, string>> } = {}
): Promise<void> => {
  const add = async (name: string, password: string, role: string) => {
    await etcdctl(url, "user", "add", `${name}:${password}`)
    await etcdctl(url, "user", "grant-role", name, role)
  }
  await add("root", "toor", "root")
  await etcdctl(url, "role", "add", "locks")
  await etcdctl(url, "role", "grant-permission", "locks", "--prefix", "readwrite", "dlock:")
  for (const [name, password] of Object.entries(users)) await add(name, password, "locks")
  await etcdctl(url, "auth", "enable")
}
