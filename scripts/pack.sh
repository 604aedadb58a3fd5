#!/bin/sh
# Builds and packs the packages, lints the tarballs, then installs them in an empty project, by npm and by pnpm, and runs a
# program and the command line there. Bundles the command line into one file. All of it stays where the last lines say.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
PATH=$root/node_modules/.bin:$PATH
pnpm() { npx --yes --prefer-offline pnpm@12.21.0 "$@"; }
rm -rf .cache/pack .cache/consumer packages/*/dist .cache/tsbuild/*.src.tsbuildinfo
tsc -b packages/*/tsconfig.src.json
mkdir -p .cache/pack
for package in packages/*/; do
  pnpm --dir "$package" pack --pack-destination "$root/.cache/pack" >.cache/pack/log 2>&1 ||
    { cat .cache/pack/log && exit 1; }
done
rm .cache/pack/log
for tarball in .cache/pack/*.tgz; do
  publint "$tarball" --strict
  attw "$tarball" --profile esm-only --quiet ||
    { attw "$tarball" --profile esm-only --format ascii --no-emoji || exit 1; }
  echo "attw: $tarball is good"
done
# The clients, each in the version that the tests run on.
peers=$(node -p '
  const { devDependencies } = require("./package.json")
  const manifests = require("fs").readdirSync("packages").map((name) => require(`./packages/${name}/package.json`))
  const names = new Set(manifests.flatMap(({ peerDependencies }) => Object.keys(peerDependencies ?? {})))
  const theirs = Array.from(names).filter((name) => devDependencies[name]?.startsWith("workspace:") !== true)
  theirs.concat("@types/node").map((name) => `${name}@${devDependencies[name]}`).join(" ")
')
# They are released together.
version=$(node -p 'require("./packages/dlock-cli/package.json").version')
for client in npm pnpm; do
  project=.cache/consumer/$client
  mkdir -p "$project"
  cp scripts/consumer/main.ts "$project/"
  (
    cd "$project"
    echo '{ "private": true, "type": "module" }' >package.json
    # As docs/install.md says of pnpm: one of etcd3's dependencies has an install script, which nobody needs.
    # The command line depends on packages that pnpm would otherwise look for in the registry.
    {
      printf 'allowBuilds:\n  protobufjs: false\noverrides:\n'
      for tarball in ../../pack/*.tgz; do
        printf '  %s: file:%s\n' "$(basename "$tarball" "-$version.tgz")" "$tarball"
      done
    } >pnpm-workspace.yaml
    case $client in
      npm) npm install --silent --no-audit --no-fund ../../pack/*.tgz $peers </dev/null ;;
      pnpm) pnpm add --silent --config.minimumReleaseAge=0 ../../pack/*.tgz $peers </dev/null ;;
    esac
    node main.ts
    tsc --ignoreConfig --noEmit --strict --target es2023 --module nodenext --types node --skipLibCheck main.ts imports.ts
    # The command line, as its documents say. No server is needed for what it does here.
    case $client in
      npm) dlock() { npx effect-dlock-cli "$@"; } ;;
      pnpm) dlock() { pnpm exec dlock "$@"; } ;;
    esac
    [ "$(dlock --version)" = "$version" ]
    dlock inspect a --driver memory --json | grep -q '"key":"a","holders":\[\]'
    [ "$(dlock run a --driver memory -- echo held)" = held ]
    [ -s node_modules/effect-dlock-cli/man/dlock.1 ]
    echo "by $client: installed, loaded, checked and locked"
  )
done
node scripts/bundle.ts
bundled=$(mktemp -d)
cp .cache/bundle/dlock.mjs "$bundled/"
[ "$(cd "$bundled" && ./dlock.mjs --version)" = "$version" ]
rm -r "$bundled"
echo "the tarballs are in .cache/pack:"
ls .cache/pack
