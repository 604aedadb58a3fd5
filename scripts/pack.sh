#!/bin/sh
# Builds and packs the packages, lints the tarballs, then installs them in an empty project and runs one program on them.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
PATH=$root/node_modules/.bin:$PATH
rm -rf .cache/pack .cache/consumer packages/*/dist .cache/tsbuild/*.src.tsbuildinfo
tsc -b tsconfig.build.json
# A package without exports is a place that is kept: nothing to pack.
for package in packages/*/; do
  grep -q '"exports"' "$package/package.json" || continue
  mkdir -p .cache/pack
  npx --yes --prefer-offline pnpm@12.21.0 --dir "$package" pack --pack-destination "$root/.cache/pack" \
    >.cache/pack/log 2>&1 || { cat .cache/pack/log && exit 1; }
done
for tarball in .cache/pack/*.tgz; do
  publint "$tarball" --strict
  attw "$tarball" --profile esm-only --quiet ||
    { attw "$tarball" --profile esm-only --format ascii --no-emoji || exit 1; }
  echo "attw: $tarball is good"
done
mkdir -p .cache/consumer
cp scripts/consumer/main.ts .cache/consumer/
cd .cache/consumer
version() { node -p "require('$root/package.json').devDependencies['$1']"; }
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund ../pack/*.tgz "effect@$(version effect)" "ioredis@$(version ioredis)" \
  "@types/node@$(version @types/node)" </dev/null
tsc --ignoreConfig --noEmit --strict --target es2023 --module nodenext --types node --skipLibCheck main.ts
node main.ts
