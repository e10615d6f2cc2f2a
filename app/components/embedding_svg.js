// The map as a drawing: what WebGL and the canvas above it show, point by point.

function drawnAsSvg(map) {
  const style = getComputedStyle(map.root), colour = (name) => style.getPropertyValue(name).trim() || "#808080"
  const svg = sheet(map.width, map.height, map.root, map.stage.getAttribute("aria-label"))
  const { palette, faint, edges } = map.latest, places = decoded(map.latest.colours, Uint8Array)
  const shades = palette.map((each) => (each.startsWith("--") ? colour(each) : each))
  map.boxes().forEach((box, place) => {
    const at = map.where()[place], size = map.look(box).size / map.ratio / 2
    const [x, y] = [(row) => at[2 * row], (row) => at[2 * row + 1]]
    const part = shape("svg", { x: box.left, width: box.width, height: box.height, overflow: "hidden" })
    const add = (tag, attributes) => part.append(shape(tag, attributes))
    const point = (row) => {
      const strong = places[row] > 0, radius = size * (strong ? 1.45 : 1) * (map.query[row] ? 1.5 : 1)
      const paint = { fill: shades[places[row]], "fill-opacity": strong ? 1 : (faint / 255).toFixed(2) }
      if (map.query[row]) add("path", { d: triangle(x(row), y(row), radius, map.turned?.[row]), ...paint })
      else add("circle", { cx: x(row).toFixed(1), cy: y(row).toFixed(1), r: radius.toFixed(1), ...paint })
    }
    const ring = (row, radius, stroke, width) =>
      add("circle", { cx: x(row).toFixed(1), cy: y(row).toFixed(1), r: radius, fill: "none", stroke, "stroke-width": width })
    for (const strong of [false, true]) for (let row = 0; row < map.count; row++) if (places[row] > 0 === strong) point(row)
    for (const row of map.selected) ring(row, size * 2, colour("--st-text-color"), 1)
    for (const [from, to, right] of edges[Math.round(box.part)] ?? []) {
      add("line", { x1: x(from), y1: y(from), x2: x(to), y2: y(to), "stroke-width": 1.6,
        stroke: colour(right ? "--st-green-color" : "--st-red-color"), ...(right ? {} : { "stroke-dasharray": "5 4" }) })
    }
    if (map.picked >= 0) ring(map.picked, 11, colour("--st-primary-color"), 3)
    svg.append(part)
  })
  for (const label of map.labels) {
    if (!label.hidden) svg.append(shape("text", { x: label.offsetLeft + 4, y: 22, fill: colour("--st-text-color"), "font-size": 13 }, label.textContent))
  }
  return svg
}

// As large as the shader's (embedding_points.js); turned: it stands on its tip.
function triangle(x, y, radius, turned) {
  const way = turned ? -1 : 1, corners = [[0, -1.1], [-0.98, 0.57], [0.98, 0.57]]
  return `M${corners.map(([dx, dy]) => `${(x + radius * dx).toFixed(1)} ${(y + way * radius * dy).toFixed(1)}`).join("L")}Z`
}
