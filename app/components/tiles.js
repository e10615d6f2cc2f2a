// One tile: an image, a map over it, and what is drawn on top in the image's own pixels.

// Where positions lie. With overlapping windows each is drawn at its stride's cell around the middle
// of its window, so that every point belongs to one position.
function geometry(tile) {
  const [height, width] = tile.size
  const rows = tile.map?.length ?? tile.grid?.[0] ?? 0
  const columns = tile.map?.[0]?.length ?? tile.grid?.[1] ?? 0
  if (!tile.window) {
    const cell = [height / (rows || 1), width / (columns || 1)]
    return { height, width, rows, columns, cell, start: [0, 0], reach: cell, from: [0, 0], overlap: false }
  }
  const [size, stride, start = 0] = tile.window
  const edge = start + size / 2 - stride / 2
  return {
    height, width, rows, columns, cell: [stride, stride], start: [edge, edge],
    reach: [size, size], from: [start, start], overlap: stride < size,
  }
}

function cellBox({ cell, start }, row, column) {
  return { x: start[1] + column * cell[1], y: start[0] + row * cell[0], width: cell[1], height: cell[0] }
}

function windowBox({ cell, from, reach }, row, column) {
  return { x: from[1] + column * cell[1], y: from[0] + row * cell[0], width: reach[1], height: reach[0] }
}

function middle(place, row, column) {
  if (row === null || row === undefined) return [place.width / 2, place.height / 2]
  const box = cellBox(place, row, column)
  return [box.x + box.width / 2, box.y + box.height / 2]
}

// [row, column] of a point in pixels; null beside the grid.
function positionAt({ cell, start, rows, columns }, x, y) {
  const row = Math.floor((y - start[0]) / cell[0]), column = Math.floor((x - start[1]) / cell[1])
  return row >= 0 && column >= 0 && row < rows && column < columns ? [row, column] : null
}

// Light on dark, so that it is seen on any picture.
function outline(box, className) {
  const group = shape("g", { class: className })
  group.append(shape("rect", { ...box, class: "dark" }), shape("rect", { ...box, class: "light" }))
  return group
}

function drawMark(place, mark) {
  const group = shape("g", { class: `mark ${mark.tone === "strong" ? "strong" : "quiet"}` })
  const box = cellBox(place, mark.row, mark.column)
  if (!mark.text) {
    group.append(shape("rect", { ...box, class: "dark" }), shape("rect", { ...box, class: "light" }))
    return group
  }
  const [x, y] = middle(place, mark.row, mark.column)
  const text = String(mark.text)
  const size = Math.min(box.height * 0.62, (box.width * 1.5) / Math.max(1.6, text.length))
  if (mark.tone === "strong") {
    const width = Math.max(1, text.length * 0.62) * size + 0.5 * size
    group.append(shape("rect", { x: x - width / 2, y: y - 0.62 * size, width, height: 1.24 * size, rx: 0.3 * size, class: "plate" }))
  }
  group.append(shape("text", { x, y, "font-size": size, "stroke-width": 0.22 * size, dy: "0.35em" }, text))
  return group
}

function drawArrow([x0, y0, x1, y1], place) {
  const length = Math.hypot(x1 - x0, y1 - y0)
  const group = shape("g", { class: "arrow" })
  const head = Math.min(0.5 * length, 0.035 * Math.max(place.width, place.height))
  const [ux, uy] = length ? [(x1 - x0) / length, (y1 - y0) / length] : [0, 0]
  const back = [x1 - head * ux, y1 - head * uy]
  const side = (sign) => `${back[0] - 0.5 * sign * head * uy},${back[1] + 0.5 * sign * head * ux}`
  const line = { x1: x0, y1: y0, x2: back[0], y2: back[1] }
  group.append(shape("line", { ...line, class: "dark" }), shape("line", { ...line, class: "light" }))
  group.append(shape("polygon", { points: `${x1},${y1} ${side(1)} ${side(-1)}`, class: "head" }))
  return group
}

// Marks, arrows and the picked position; `.cursor` is filled as one moves over it.
function drawOverlay(tile, place) {
  const svg = shape("svg", { class: "overlay", viewBox: `0 0 ${place.width} ${place.height}`, "aria-hidden": "true" })
  for (const arrow of tile.arrows ?? []) svg.append(drawArrow(arrow, place))
  for (const mark of tile.marks ?? []) svg.append(drawMark(place, mark))
  if (tile.picked) {
    svg.append(outline(windowBox(place, ...tile.picked), "picked"))
    if (place.overlap) {
      const [cx, cy] = middle(place, ...tile.picked)
      svg.append(shape("circle", { cx, cy, r: 0.18 * place.cell[0], class: "centre" }))
    }
  }
  svg.append(shape("g", { class: "cursor" }))
  return svg
}

// The tile's element; place, scale and canvas are kept on it for hovering and saving.
function drawTile(tile, index, images, scale) {
  const place = geometry(tile)
  const node = make("figure", "tile"), picture = make("div", "picture")
  const ground = make("div", "ground") // arrows may leave it
  picture.append(ground)
  picture.style.aspectRatio = `${place.width} / ${place.height}`
  picture.dataset.tile = index
  if (tile.src !== null) {
    const image = make("img")
    image.src = images[tile.src]
    image.alt = ""
    image.draggable = false
    image.decoding = "async"
    ground.append(image)
  }
  if (tile.map) {
    const over = tile.src !== null
    const canvas = paint(tile.map, tile.palette, scale, over)
    canvas.className = over ? "map" : "map alone"
    const [top, left] = place.start
    canvas.style.left = `${(100 * left) / place.width}%`
    canvas.style.top = `${(100 * top) / place.height}%`
    canvas.style.width = `${(100 * place.columns * place.cell[1]) / place.width}%`
    canvas.style.height = `${(100 * place.rows * place.cell[0]) / place.height}%`
    ground.append(canvas)
  }
  picture.append(drawOverlay(tile, place))
  node.append(picture)
  const ranges = tile.map && tile.scale === "own" ? rangeInWords(tile.map, scale) : []
  if (tile.label || tile.note || ranges.length) {
    const words = make("figcaption")
    if (tile.label) words.append(make("span", "label", tile.label))
    for (const [kind, text] of [["note", tile.note], ...ranges.map((range) => ["range", range])])
      if (text) words.append(make("span", kind, text))
    words.title = [tile.label, tile.note, ranges.join(" ")].filter(Boolean).join(" · ")
    node.append(words)
  }
  return Object.assign(picture, { place, scale, spec: tile, whole: node })
}
