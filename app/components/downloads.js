// Saves a plotly chart that stands elsewhere on the page.

// A scene in three dimensions forgets what it painted; it has to paint once more.
function painted(canvas, chart) {
  const layout = chart._fullLayout ?? {}
  const scenes = (layout._subplots?.gl3d ?? []).map((name) => layout[name]._scene)
  const scene = scenes.find((each) => each?.container?.contains(canvas))
  return scene ? scene.toImage("png") : canvas.toDataURL("image/png")
}

// Plotly paints on layers: several SVGs, and canvases where WebGL draws.
function composed(chart, root, title) {
  const frame = chart.querySelector(".svg-container") ?? chart
  const whole = frame.getBoundingClientRect()
  const svg = sheet(Math.round(whole.width), Math.round(whole.height), root, title, 8)
  for (const layer of frame.querySelectorAll("svg.main-svg, canvas")) {
    if (layer.closest(".modebar, .hoverlayer")) continue
    const box = layer.getBoundingClientRect()
    const place = { x: box.left - whole.left, y: box.top - whole.top, width: box.width, height: box.height }
    if (!box.width || !box.height) continue
    if (layer instanceof HTMLCanvasElement) {
      svg.append(shape("image", { ...place, href: painted(layer, chart) }))
      continue
    }
    const copy = layer.cloneNode(true)
    inlined(layer, copy)
    for (const node of copy.querySelectorAll(".hoverlayer, .modebar, .drag, .draglayer, .zoomlayer")) node.remove()
    for (const [name, value] of Object.entries(place)) copy.setAttribute(name, value)
    copy.removeAttribute("style")
    svg.append(copy)
  }
  return svg
}

// What the page's style sheets say of text and lines is lost outside of it, and references to parts
// of the same picture carry the page's address.
function inlined(from, to) {
  const originals = from.querySelectorAll("*"), copies = to.querySelectorAll("*")
  originals.forEach((original, place) => {
    const copy = copies[place]
    for (const { name, value } of [...copy.attributes]) {
      if (value.includes("url(")) copy.setAttribute(name, value.replaceAll(/url\(["']?[^"')]*#([^"')]+)["']?\)/g, "url(#$1)"))
    }
    copy.style.removeProperty("vector-effect") // or its lines would be thinner in a larger picture
    if (!["text", "tspan"].includes(original.tagName)) return
    const style = getComputedStyle(original)
    for (const name of ["font-family", "font-size", "font-weight", "fill", "text-anchor"])
      copy.style.setProperty(name, style.getPropertyValue(name))
  })
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root")
  const chart = () => {
    const found = document.querySelector(`.${CSS.escape(data.place)} .js-plotly-plot`)
    if (!found) throw new Error("the chart is not on the page")
    return composed(found, root, data.title)
  }
  root.replaceChildren(saveButtons({
    PNG: () => savePng(chart(), data.file),
    SVG: () => saveSvg(chart(), data.file),
  }))
}
