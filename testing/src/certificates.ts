import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

/**
 * Makes an authority and what it signed for a server and a client, as `ca.pem`, `server.pem`, `server.key`, `client.pem`
 * and `client.key` in a folder, and another authority, `other.pem`. Returns the client's as texts. They are valid for
 * `name` alone.
 */
export const makeCertificates = (
  dir: string,
  name = "IP:127.0.0.1"
): { readonly ca: string; readonly cert: string; readonly key: string } => {
  const openssl = (line: string) => execFileSync("openssl", line.split(" "), { cwd: dir, stdio: "pipe" })
  const read = (name: string) => Fs.readFileSync(Path.join(dir, name), "utf8")
  Fs.writeFileSync(Path.join(dir, "names"), `subjectAltName=${name}`)
  for (const authority of ["ca", "other"]) {
    openssl(
      `req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ${authority}.key -out ${authority}.pem -subj /CN=${authority}`
    )
  }
  for (const one of ["server", "client"]) {
    openssl(`req -newkey rsa:2048 -nodes -keyout ${one}.key -out ${one}.csr -subj /CN=${one}`)
    openssl(`x509 -req -in ${one}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out ${one}.pem`)
  }
  return { ca: read("ca.pem"), cert: read("client.pem"), key: read("client.key") }
}
