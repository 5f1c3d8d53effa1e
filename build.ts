/**
 * Builds the files of the image and of the kubectl plugin: `npm run build`. dist/figwasp.cjs contains all of figwasp.
 * The client library is in a file of its own, because it is fifteen times as large and would be parsed at each start.
 */
import { build, type BuildOptions, type Plugin } from "esbuild";

const [outdir = "dist"] = process.argv.slice(2);
const library = "client-library";

const apart: Plugin = {
  name: "apart",
  setup: (building) => {
    building.onResolve({ filter: new RegExp(`/${library}\\.ts$`) }, ({ kind }) => {
      return kind === "entry-point" ? undefined : { path: `./${library}.cjs`, external: true };
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
await build({ ...options, entryPoints: [`lib/kubernetes/${library}.ts`], define: {} });
