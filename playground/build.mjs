// Bundles the playground into server/playground/built/: what a page needs, compressed once more for slow lines, and nothing
// of another host. It is built beside its place and moved there last, so that a server never sees half of it.

import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, gzip } from "node:zlib";
import { promisify } from "node:util";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const place = join(here, "../server/playground/built");
const fresh = `${place}.new`;
const compressed = promisify(gzip);

// GraphiQL's own style sheet holds the editor's; a second one in a part that is loaded late would never be asked for.
const withoutStyles = {
  name: "without the editor's styles",
  setup: ({ onLoad }) => onLoad({ filter: /monaco-editor\/.*\.css$/ }, () => ({ contents: "", loader: "js" })),
};

const common = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  metafile: true,
  outdir: fresh,
  legalComments: "linked",
  logLevel: "warning",
  target: ["es2022"],
  define: { "process.env.NODE_ENV": '"production"' },
  loader: { ".ttf": "file" },
  plugins: [withoutStyles],
  entryNames: "[name]-[hash]",
  chunkNames: "part-[hash]",
  assetNames: "[name]-[hash]",
};

/** The name of the file that an entry point became. */
function outputOf({ outputs }, entry, ending = ".js") {
  const found = Object.entries(outputs).find(([name, output]) => output.entryPoint === entry && name.endsWith(ending));
  const name = ending === ".css" ? Object.values(outputs).find((output) => output.entryPoint === entry).cssBundle : found[0];
  return name.split("/").at(-1);
}

async function buildWorkers() {
  const entries = {
    editor: "node_modules/monaco-editor/esm/vs/editor/editor.worker.js",
    json: "node_modules/monaco-editor/esm/vs/language/json/json.worker.js",
    graphql: "node_modules/monaco-graphql/esm/graphql.worker.js",
  };
  const { metafile } = await build({ ...common, entryPoints: Object.values(entries), format: "iife" });
  return Object.fromEntries(Object.entries(entries).map(([label, entry]) => [label, outputOf(metafile, entry)]));
}

async function buildPage(workers) {
  const entry = "src/main.jsx";
  const { metafile } = await build({
    ...common,
    entryPoints: [entry],
    format: "esm",
    splitting: true,
    jsx: "automatic",
    define: { ...common.define, WORKERS: JSON.stringify(workers) },
  });
  const template = await readFile(join(here, "src/index.html"), "utf8");
  const page = template
    .replace("STYLES", `playground/${outputOf(metafile, entry, ".css")}`)
    .replace("SCRIPT", `playground/${outputOf(metafile, entry)}`);
  await writeFile(join(fresh, "index.html"), page);
}

async function compressAll() {
  for (const name of await readdir(fresh)) {
    if (name === "index.html" || name.endsWith(".txt")) continue;
    const body = await compressed(await readFile(join(fresh, name)), { level: constants.Z_BEST_COMPRESSION });
    await writeFile(join(fresh, `${name}.gz`), body);
  }
}

await rm(fresh, { recursive: true, force: true });
await mkdir(fresh, { recursive: true });
await buildPage(await buildWorkers());
await compressAll();
await rm(place, { recursive: true, force: true });
await rename(fresh, place);
const names = (await readdir(place)).filter((name) => name.endsWith(".gz"));
const bytes = (await Promise.all(names.map((name) => readFile(join(place, name))))).reduce((sum, one) => sum + one.length, 0);
console.log(`server/playground/built: ${names.length} files, ${Math.round(bytes / 1024)} kB compressed`);
