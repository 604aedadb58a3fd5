// Bundles the command line into one file, with both clients inside: `node scripts/bundle.ts [FILE]`, by default
// .cache/bundle/dlock.mjs. It runs in an empty folder, and needs Node.js only.
import * as Esbuild from "esbuild"
import * as Fs from "node:fs"
import * as Module from "node:module"
import * as Path from "node:path"
import * as Url from "node:url"

const root = Path.resolve(import.meta.dirname, "..")
const outfile = Path.resolve(process.argv[2] ?? Path.join(root, ".cache/bundle/dlock.mjs"))
const source = (path: string) => Path.join(root, "packages/dlock-cli", path)
const { version }: { readonly version: string } = JSON.parse(Fs.readFileSync(source("package.json"), "utf8"))

/** What is needed of protobufjs here. */
interface Root {
  resolvePath: (origin: string, target: string) => string
  readonly loadSync: (file: string, options: object) => Root
  readonly toJSON: () => object
}

/** etcd3 reads the descriptions of its messages from files, when it is loaded. In a bundle they are text. */
const descriptions: Esbuild.Plugin = {
  name: "descriptions of etcd's messages",
  setup: (build) => {
    build.onLoad({ filter: /etcd3[\\/]lib[\\/]connection-pool\.js$/ }, ({ path }) => {
      const require = Module.createRequire(path)
      const loader = Module.createRequire(require.resolve("@grpc/proto-loader"))
      const protobuf = loader("protobufjs") as { readonly Root: new() => Root }
      const messages = new protobuf.Root()
      const folder = Path.resolve(Path.dirname(path), "../proto")
      messages.resolvePath = (_, target) => Path.join(folder, Path.basename(target))
      const json = JSON.stringify(messages.loadSync("rpc.proto", { keepCase: true }).toJSON())
      const call = "(0, proto_loader_1.loadSync)(`${__dirname}/../proto/rpc.proto`,"
      const text = Fs.readFileSync(path, "utf8")
      if (!text.includes(call)) throw new Error(`${path} loads its descriptions in another way`)
      return { contents: text.replace(call, () => `(0, proto_loader_1.fromJSON)(${json},`), loader: "js" }
    })
  }
}

/** The page of `dlock ui` reads its files beside itself. In a bundle they are text. */
const page: Esbuild.Plugin = {
  name: "files of the page",
  setup: (build) => {
    build.onLoad({ filter: /dlock-cli[\\/]src[\\/]internal[\\/]ui[\\/]assets\.ts$/ }, async ({ path }) => {
      const assets: { readonly load: () => ReadonlyMap<string, unknown> } = await import(Url.pathToFileURL(path).href)
      const json = JSON.stringify(Array.from(assets.load()))
      return { contents: `const assets = new Map(${json}); export const load = () => assets`, loader: "js" }
    })
  }
}

const { metafile } = await Esbuild.build({
  entryPoints: [source("src/dlock.ts")],
  outfile,
  bundle: true,
  platform: "node",
  target: "node22.19",
  format: "esm",
  // Both clients are CommonJS, and ask for Node's own modules by `require`.
  banner: {
    js: [
      "import { createRequire as dlockCreateRequire } from 'node:module'",
      "import { dirname as dlockDirname } from 'node:path'",
      "import { fileURLToPath as dlockFileURLToPath } from 'node:url'",
      "const require = dlockCreateRequire(import.meta.url)",
      "const __filename = dlockFileURLToPath(import.meta.url), __dirname = dlockDirname(__filename)"
    ].join("\n")
  },
  define: { DLOCK_VERSION: JSON.stringify(version) },
  plugins: [descriptions, page],
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "eof",
  metafile: true,
  logLevel: "warning"
})
Fs.chmodSync(outfile, 0o755)
const bytes = Object.values(metafile.outputs).reduce((sum, output) => sum + output.bytes, 0)
console.log(`${Path.relative(process.cwd(), outfile)}: ${(bytes / 1_000_000).toFixed(1)} MB`)
