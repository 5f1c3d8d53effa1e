/**
 * Draws lines on logarithmic axes as SVG, in colours that are readable on light and on dark pages.
 */

export interface Panel {
  title: string;
  lines: { name: string; points: [x: number, y: number][] }[];
}

const width = 420;
const height = 300;
const margin = { left: 52, top: 56, bottom: 44, right: 28 };
const colours = ["#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#64748b"];
const dashes = ["", "7 4", "2 4", "9 3 2 3"];

/** Draws panels side by side, with one legend and the same x axis title. */
export function plot(panels: Panel[], xTitle: string): string {
  const names = [...new Set(panels.flatMap(({ lines }) => lines.map(({ name }) => name)))];
  const styleOf = (name: string) => {
    const at = names.indexOf(name);
    return `stroke="${colours[at % colours.length]}" stroke-dasharray="${dashes[at % dashes.length]}"`;
  };
  const legend = names.map((name, at) => {
    const x = margin.left + at * 170;
    return `<path class="line" d="M${x} 16h26" ${styleOf(name)}/><text x="${x + 32}" y="20">${escape(name)}</text>`;
  });
  const drawn = panels.map((panel, at) => {
    return `<g transform="translate(${at * width} 0)">${draw(panel, xTitle, styleOf)}</g>`;
  });
  const size = `${panels.length * width} ${height}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size}" role="img">
<style>
text { font: 12px system-ui, sans-serif; fill: #6e7781; }
.grid { stroke: #8884; }
.line { fill: none; stroke-width: 2; }
</style>
${[...legend, ...drawn].join("\n")}
</svg>
`;
}

function draw({ title, lines }: Panel, xTitle: string, styleOf: (name: string) => string): string {
  const points = lines.flatMap((line) => line.points);
  const x = axis(
    points.map(([value]) => value),
    margin.left,
    width - margin.right,
  );
  const y = axis(
    points.map(([, value]) => value),
    height - margin.bottom,
    margin.top,
  );
  const [bottom, right] = [height - margin.bottom, width - margin.right];
  const columns = x.ticks.map((tick) => {
    const at = x.place(tick);
    const label = tick.toLocaleString("en").replace(",", " ");
    return `<path class="grid" d="M${at} ${margin.top}V${bottom}"/><text x="${at}" y="${bottom + 17}" text-anchor="middle">${label}</text>`;
  });
  const rows = y.ticks.map((tick) => {
    const at = y.place(tick);
    return `<path class="grid" d="M${margin.left} ${at}H${right}"/><text x="${margin.left - 6}" y="${at + 4}" text-anchor="end">${tick}</text>`;
  });
  const paths = lines.map(({ name, points: all }) => {
    const places = all.map(([atX, atY]) => `${x.place(atX)} ${y.place(atY)}`);
    const dots = places.map((place) => `M${place}h0`).join("");
    return `<path class="line" d="M${places.join("L")}" ${styleOf(name)}/><path class="line" d="${dots}" ${styleOf(name)} style="stroke-width:7;stroke-linecap:round"/>`;
  });
  const titles = [
    `<text x="${margin.left}" y="${margin.top - 12}">${escape(title)}</text>`,
    `<text x="${(margin.left + right) / 2}" y="${height - 8}" text-anchor="middle">${escape(xTitle)}</text>`,
  ];
  return [...columns, ...rows, ...paths, ...titles].join("\n");
}

// From the power of ten below the smallest value to that above the greatest; ticks at 2 and 5 too if these are few.
function axis(values: number[], from: number, to: number) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(Math.ceil(Math.log10(Math.max(...values))), low + 1);
  const place = (value: number) => round(from + ((Math.log10(value) - low) / (high - low)) * (to - from));
  const steps = high - low > 2 ? [1] : [1, 2, 5];
  const decades = Array.from({ length: high - low + 1 }, (_each, at) => 10 ** (low + at));
  const ticks = decades.flatMap((decade) => steps.map((step) => decade * step)).filter((tick) => tick <= 10 ** high);
  return { place, ticks };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
