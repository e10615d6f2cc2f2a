// The tiles as they stand on screen, as one picture or as numbers.

function written(svg, node, whole, muted) {
  const box = node.getBoundingClientRect()
  if (!box.width || !node.textContent) return
  const style = getComputedStyle(node)
  const attributes = {
    x: box.left - whole.left, y: box.top - whole.top + box.height / 2, dy: "0.35em",
    fill: style.color, "font-size": style.fontSize, "font-weight": style.fontWeight, "font-family": style.fontFamily,
  }
  svg.append(shape("text", attributes, node.textContent))
}

// A copy of drawn shapes as the style sheet shows them. scale: screen pixels per unit; lines that have
// one width at every scale are given that width in units, so that they grow with the picture.
function styled(original, scale = 1) {
  const copy = original.cloneNode(true)
  const pairs = [[original, copy], ...[...original.querySelectorAll("*")].map((each, i) => [each, copy.querySelectorAll("*")[i]])]
  for (const [from, to] of pairs) {
    const style = getComputedStyle(from)
    for (const name of ["fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "paint-order",
      "font-weight", "font-family", "text-anchor", "opacity"])
      to.style.setProperty(name, style.getPropertyValue(name))
    if (style.vectorEffect === "non-scaling-stroke") {
      for (const name of ["stroke-width", "stroke-dasharray"])
        to.style.setProperty(name, style.getPropertyValue(name).replaceAll(/[\d.]+/g, (size) => size / scale))
    }
    to.removeAttribute("class")
  }
  return copy
}

function pictureOf(root, stage, pictures, data) {
  const bars = [...root.querySelectorAll(".scale")]
  const whole = stage.getBoundingClientRect(), foot = bars.length ? 56 : 0
  const step = Math.max(170, ...bars.map((bar) => 6 * bar.whose.length)) // room for its words
  const used = Math.max(...pictures.map((picture) => picture.whole.getBoundingClientRect().right - whole.left))
  const width = Math.ceil(Math.max(used, step * bars.length))
  const svg = sheet(width, Math.ceil(whole.height) + foot, root, data.alt, 12)
  const opacity = Number(getComputedStyle(root).getPropertyValue("--opacity") || 0.65)
  const soft = root.classList.contains("soft")
  pictures.forEach((picture, index) => {
    const box = picture.getBoundingClientRect(), { place, spec, scale } = picture
    const inner = shape("svg", {
      x: box.left - whole.left, y: box.top - whole.top, width: box.width, height: box.height,
      viewBox: `0 0 ${place.width} ${place.height}`, overflow: spec.arrows?.length ? "visible" : "hidden",
    })
    const size = { width: place.width, height: place.height, preserveAspectRatio: "none" }
    if (spec.src !== null) inner.append(shape("image", { ...size, href: data.images[spec.src] }))
    if (spec.map) {
      const canvas = paint(spec.map, spec.palette, scale, spec.src !== null, 16, soft)
      inner.append(shape("image", {
        x: place.start[1], y: place.start[0], width: place.columns * place.cell[1], height: place.rows * place.cell[0],
        preserveAspectRatio: "none", opacity: spec.src === null ? 1 : opacity, href: canvas.toDataURL(),
      }))
    }
    const overlay = styled(picture.querySelector(".overlay"), box.width / place.width)
    inner.append(...overlay.childNodes)
    svg.append(inner)
  })
  const links = styled(stage.querySelector(".links"))
  svg.append(...links.childNodes)
  for (const text of stage.querySelectorAll("figcaption > *")) written(svg, text, whole) // on the lines
  bars.forEach((bar, index) => barOf(svg, bar, step * index, whole.height + 14, root, index))
  return svg
}

function barOf(svg, { palette, ends, unit, whose }, x, y, root, index) {
  const colours = gradient(palette), id = `colours-${index}`
  const defined = shape("linearGradient", { id })
  colours.forEach((colour, place) => defined.append(shape("stop", { offset: place / (colours.length - 1), "stop-color": colour })))
  svg.append(defined, shape("rect", { x, y, width: 150, height: 8, fill: `url(#${id})` }))
  const style = { y: y + 20, "font-size": 10, fill: getComputedStyle(root).color }
  svg.append(shape("text", { ...style, x }, ends[0]), shape("text", { ...style, x: x + 150, "text-anchor": "end" }, ends.at(-1)))
  svg.append(shape("text", { ...style, x: x + 75, "text-anchor": "middle" }, unit))
  svg.append(shape("text", { ...style, x, y: y + 33 }, whose))
}

function mapsAsCsv(tiles) {
  const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`
  const lines = ["tile,label,row,column,value"]
  tiles.forEach((tile, index) => (tile.map ?? []).forEach((row, y) => row.forEach((value, x) => {
    lines.push([index + 1, quoted(tile.label ?? ""), y + 1, x + 1, value ?? ""].join(","))
  })))
  return lines.join("\r\n") + "\r\n"
}
