/**
 * Builds the files of the image and of the kubectl plugin: `npm run build`. dist/figwasp.cjs contains what a run needs.
 * What a run does not need is in files of its own beside it, since it would be parsed at each start: the client
 * library, which is fifteen times as large, and the commands `doctor` and `rbac`.
 */
import { basename } from "node:path";
import { build, type BuildOptions, type Plugin } from "esbuild";

const [outdir = "dist"] = process.argv.slice(2);
/** Modules that a run does not need, each built into a file of its own beside figwasp.cjs and loaded on first use. */
const separate = ["kubernetes/client-library", "command/doctor", "command/rbac"];
const names = separate.map((module) => basename(module));

const apart: Plugin = {
  name: "apart",
  setup: (building) => {
    building.onResolve({ filter: new RegExp(`/(?:${names.join("|")})\\.ts$`) }, ({ path, kind }) => {
      return kind === "entry-point" ? undefined : { path: `./${basename(path, ".ts")}.cjs`, external: true };
    });
  },
};

const options: BuildOptions = {
  bundle: true,
  platform: "node",
  target: "node24",
  format: "cjs",
  minify: true,
  legalComments: "external",
  outdir,
  outExtension: { ".js": ".cjs" },
  define: { "import.meta.main": "true" },
  // Uses require(), so that the library is found beside the file, also if the file is started through a link.
  supported: { "dynamic-import": false },
  plugins: [apart],
};

await build({ ...options, entryPoints: ["figwasp.ts"] });
await build({
  ...options,
  entryPoints: separate.map((module) => `lib/${module}.ts`),
  outbase: ".",
  entryNames: "[name]",
  define: {},
});
