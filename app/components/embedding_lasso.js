// What is selected on a map, drawn by hand or with keys, and how an address says it.

const STEP = 24 // pixels that a key moves a box, or its corner
const CORNERS = 40 // of a lasso in an address

// Whether a place lies within a polygon, by the even-odd rule; Python asks the same of an address.
function within(polygon, x, y) {
  let inside = false
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j]
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside
  }
  return inside
}

// A line with fewer points, none of which was farther from it than so many pixels (Douglas and Peucker).
function thinned(points, far) {
  const [a, b] = [points[0], points[points.length - 1]], long = Math.hypot(b[0] - a[0], b[1] - a[1])
  let most = 0, at = 0
  points.forEach(([x, y], place) => {
    const away = long ? Math.abs((b[0] - a[0]) * (a[1] - y) - (a[0] - x) * (b[1] - a[1])) / long : Math.hypot(x - a[0], y - a[1])
    if (away > most) [most, at] = [away, place]
  })
  if (most <= far) return [a, b]
  return [...thinned(points.slice(0, at + 1), far).slice(0, -1), ...thinned(points.slice(at), far)]
}

// A lasso in pixels of a box as the address says it: the map's number, in 3-D two rows of the turn, then
// the corners on the map, as fine as a pixel; all joined by "_".
function addressOf(map, place, corners) {
  const box = map.boxes()[place], look = map.look(box), [sx, sy] = look.scale
  const digits = Math.max(2, Math.ceil(Math.log10((map.zoom * Math.min(box.width, box.height)) / 2)))
  const short = (number, digits) => String(Number(number.toFixed(digits)))
  const turn = map.data.dimensions === 3 ? [0, 3, 6, 1, 4, 7].map((at) => short(look.turn[at], 4)) : []
  const places = corners.flatMap(([x, y]) => [((2 * x) / box.width - 1) / sx + look.centre[0], (1 - (2 * y) / box.height) / sy + look.centre[1]])
  return [Math.round(box.part), ...turn, ...places.map((each) => short(each, digits))].join("_")
}

function inLasso(map, place, corners) {
  const at = map.where()[place], rows = []
  for (let row = 0; row < map.count; row++) if (within(corners, at[2 * row], at[2 * row + 1])) rows.push(row)
  return rows
}

function take(map, place, points) {
  let far = 1, corners = thinned(points, far)
  while (corners.length > CORNERS) corners = thinned(points, (far *= 1.5))
  map.choose(inLasso(map, place, corners), addressOf(map, place, corners))
}

// ---- a box drawn with keys: Shift and arrows draw it from the point in focus, arrows move it

function boxed(map, dx, dy, grow) {
  if (!map.frameBox) {
    const at = map.where()[map.side], box = map.boxes()[map.side], row = map.hover >= 0 ? map.hover : map.cursor ?? map.picked ?? -1
    const [x, y] = row >= 0 ? [at[2 * row], at[2 * row + 1]] : [box.width / 2, box.height / 2]
    map.frameBox = { place: map.side, from: [x - 6, y - 6], to: [x + 6, y + 6] }
  }
  const frame = map.frameBox, box = map.boxes()[frame.place]
  const moved = ([x, y]) => [Math.min(box.width, Math.max(0, x + STEP * dx)), Math.min(box.height, Math.max(0, y + STEP * dy))]
  frame.to = moved(frame.to)
  if (!grow) frame.from = moved(frame.from)
  hoverOver(map, -1)
  const count = inLasso(map, frame.place, cornersOf(frame)).length
  map.said.textContent = `Box around ${count} images. Enter: select them. Escape: drop it.`
  map.ask(false)
}

function cornersOf({ from: [x1, y1], to: [x2, y2] }) {
  return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
}
