// How a map's points are painted, and what the paint means. Small: it changes with every choice, while
// the points themselves (embedding_map.js) were sent once.

const maps = (globalThis.reidMaps ??= new Map())

function sample(colour, quiet, sign) {
  const dot = make("i", sign ? `triangle ${sign}` : quiet ? "dot quiet" : "dot")
  dot.style[sign ? "color" : "background"] = colour.startsWith("--") ? `var(${colour})` : colour
  return dot
}

function entry(...parts) {
  const made = make("span", "entry")
  made.append(...parts)
  return made
}

function ramp({ colours, low, high }) {
  const bar = make("i", "ramp")
  bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`
  return entry(make("span", "", low), bar, make("span", "", high))
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root")
  const legend = make("div", "legend")
  if (data.ramp) legend.append(ramp(data.ramp))
  for (const { colour, label, quiet, sign } of data.entries) legend.append(entry(sample(colour, quiet, sign), make("span", "", label)))
  legend.append(entry(make("i", "triangle"), make("span", "", "query")), entry(make("i", "dot line"), make("span", "", "gallery")),
    entry(make("i", "dot picked"), make("span", "", "picked")))
  if (data.edges.some((side) => side.length)) {
    legend.append(entry(make("i", "edge right"), make("span", "", "to a right image")),
      entry(make("i", "edge wrong"), make("span", "", "to a wrong one")))
  }
  root.replaceChildren(legend)
  const known = maps.get(data.id) ?? {}
  maps.set(data.id, { ...known, paint: data })
  known.map?.paint(data)
}
