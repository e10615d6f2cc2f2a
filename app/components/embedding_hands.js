// What hands do with a map, and what is drawn over its points.

// "#rrggbb" or a theme's variable name -> [red, green, blue, alpha], 0 to 255.
function bytesOf(colour, style) {
  const text = colour.trim().startsWith("--") ? style.getPropertyValue(colour.trim()) : colour
  bytesOf.pen ??= make("canvas").getContext("2d", { willReadFrequently: true })
  const pen = bytesOf.pen
  bytesOf.known ??= new Map()
  if (!bytesOf.known.has(text)) {
    pen.canvas.width = pen.canvas.height = 1
    pen.fillStyle = text.trim() || "#808080"
    pen.fillRect(0, 0, 1, 1)
    bytesOf.known.set(text, [...pen.getImageData(0, 0, 1, 1).data])
  }
  return bytesOf.known.get(text)
}

function drawOver(map) {
  const pen = map.over.getContext("2d"), style = getComputedStyle(map.root)
  const colour = (name) => style.getPropertyValue(name).trim() || "#808080"
  pen.setTransform(map.ratio, 0, 0, map.ratio, 0, 0)
  pen.clearRect(0, 0, map.width, map.height)
  const boxes = map.boxes(), drawn = map.latest
  map.labels.forEach((label, side) => {
    label.hidden = map.mode !== "both" && Math.round(map.part) !== side
    label.classList.toggle("here", map.mode === "both" && side === map.side)
    label.style.left = `${map.mode === "both" ? boxes[side].left + 10 : 10}px`
  })
  boxes.forEach((box, place) => {
    const at = map.where()[place], [x, y] = [(row) => at[2 * row], (row) => at[2 * row + 1]]
    pen.save()
    pen.beginPath()
    pen.rect(box.left, 0, box.width, box.height)
    pen.clip()
    pen.translate(box.left, 0)
    if (place) line(pen, [[0, 0], [0, box.height]], colour("--st-border-color"), 1)
    for (const [from, to, right] of drawn.edges[Math.round(box.part)] ?? []) {
      pen.setLineDash(right ? [] : [5, 4])
      line(pen, [[x(from), y(from)], [x(to), y(to)]], colour(right ? "--st-green-color" : "--st-red-color"), 1.6)
    }
    pen.setLineDash([])
    const ring = (row, radius, width, name) => {
      if (row == null || row < 0) return
      pen.beginPath()
      pen.arc(x(row), y(row), radius, 0, 2 * Math.PI)
      pen.lineWidth = width + 2
      pen.strokeStyle = colour("--st-background-color")
      pen.stroke()
      pen.lineWidth = width
      pen.strokeStyle = colour(name)
      pen.stroke()
    }
    ring(map.picked, 11, 3, "--st-primary-color")
    if (map.hover !== map.picked) ring(map.hover, 9, 2, "--st-text-color")
    const drawing = map.lasso ?? (map.frameBox && { place: map.frameBox.place, points: cornersOf(map.frameBox) })
    if (drawing?.place === place) line(pen, [...drawing.points, drawing.points[0]], colour("--st-primary-color"), 1.5)
    pen.restore()
  })
}

function line(pen, points, colour, width) {
  pen.beginPath()
  points.forEach(([x, y], place) => (place ? pen.lineTo(x, y) : pen.moveTo(x, y)))
  pen.strokeStyle = colour
  pen.lineWidth = width
  pen.stroke()
}

// The nearest point to a place in a box.
function nearest(map, place, x, y) {
  const at = map.where()[place]
  let best = -1, least = REACH * REACH
  for (let row = 0; row < map.count; row++) {
    const far = (at[2 * row] - x) ** 2 + (at[2 * row + 1] - y) ** 2
    if (far < least) [best, least] = [row, far]
  }
  return best
}

// From a point to the nearest one in a direction: what lies aside counts as farther.
function beyond(map, place, from, dx, dy) {
  const at = map.where()[place], box = map.boxes()[place]
  const [x, y] = from < 0 ? [box.width / 2, box.height / 2] : [at[2 * from], at[2 * from + 1]]
  let best = -1, least = Infinity
  for (let row = 0; row < map.count; row++) {
    const along = (at[2 * row] - x) * dx + (at[2 * row + 1] - y) * dy
    const aside = Math.abs((at[2 * row] - x) * dy) + Math.abs((at[2 * row + 1] - y) * dx)
    if (along <= 0.5 || aside > 2 * along) continue
    if (along + 2 * aside < least) [best, least] = [row, along + 2 * aside]
  }
  return best
}

function hoverOver(map, row, place, says = false) {
  if (map.hover !== row) {
    map.hover = row
    map.ask(false)
  }
  map.card.hidden = row < 0
  if (row < 0) return
  const side = map.mode === "both" ? place : Math.round(map.part)
  const facts = map.facts.filter((fact) => fact.side === undefined || fact.side === side)
  const lines = facts.map((fact) => told(fact, row)).filter(Boolean)
  map.words.replaceChildren(...lines.map((text) => make("div", "", text)))
  drawCrop(map, row)
  const box = map.boxes()[place], at = map.where()[place]
  const [x, y] = [box.left + at[2 * row], at[2 * row + 1]]
  const right = x + map.card.offsetWidth + 24 > map.width
  map.card.style.left = `${Math.max(4, right ? x - map.card.offsetWidth - 16 : x + 16)}px`
  map.card.style.top = `${Math.max(4, Math.min(map.height - map.card.offsetHeight - 4, y - map.card.offsetHeight / 2))}px`
  if (says) map.said.textContent = lines.join(", ")
}

function told(fact, row) {
  const value = fact.values[row]
  if (Number.isNaN(value)) return ""
  const word = fact.words?.[String(value)]
  return word ?? `${fact.label} ${fact.digits ? value.toFixed(fact.digits) : value}${fact.unit ?? ""}`
}

function drawCrop(map, row) {
  map.crop.hidden = !map.data.sheet || !map.sheet.complete
  if (map.crop.hidden) return
  const [height, width] = map.data.sheet.tile, columns = map.data.sheet.columns
  map.crop.width = width
  map.crop.height = height
  const from = [(row % columns) * width, Math.floor(row / columns) * height, width, height]
  map.crop.getContext("2d").drawImage(map.sheet, ...from, 0, 0, width, height)
}

function handle(map) {
  const { stage } = map
  let drag = null
  const place = (event) => {
    const frame = stage.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top
    const boxes = map.boxes(), at = boxes.length > 1 && x > boxes[1].left ? 1 : 0
    return { place: at, x: x - boxes[at].left, y }
  }
  stage.onpointerdown = (event) => {
    if (event.button > 2) return
    stage.focus({ preventScroll: true })
    stage.setPointerCapture(event.pointerId)
    map.frameBox = null
    const here = place(event), turns = map.data.dimensions === 3 && event.button === 0 && !event.ctrlKey
    const kind = map.lassoing || event.shiftKey ? "lasso" : turns ? "turn" : "pan"
    drag = { kind, ...here, far: 0 }
    map.side = here.place
    if (kind === "lasso") map.lasso = { place: here.place, points: [[here.x, here.y]] }
  }
  stage.onpointermove = (event) => {
    const here = place(event)
    if (!drag) return hoverOver(map, nearest(map, here.place, here.x, here.y), here.place)
    const box = map.boxes()[drag.place], [dx, dy] = [here.x - drag.x, here.y - drag.y]
    if (here.place !== drag.place) return
    drag.far += Math.hypot(dx, dy)
    if (drag.kind === "lasso") map.lasso.points.push([here.x, here.y])
    else if (drag.kind === "turn") map.turn = turned(map.turn, dx / 160, dy / 160)
    else {
      const [sx, sy] = map.look(box).scale
      map.centre = [map.centre[0] - (2 * dx) / box.width / sx, map.centre[1] + (2 * dy) / box.height / sy]
    }
    Object.assign(drag, { x: here.x, y: here.y })
    hoverOver(map, -1)
    map.ask(drag.kind !== "lasso")
  }
  stage.onpointerup = (event) => {
    const done = drag, here = place(event)
    drag = null
    if (!done) return
    const lasso = map.lasso
    map.lasso = null
    if (done.far < 4) {
      const row = nearest(map, here.place, here.x, here.y)
      if (row >= 0) map.send.picked(row)
    } else if (lasso && lasso.points.length > 2) {
      map.arm(false)
      take(map, lasso.place, lasso.points)
    }
    map.ask(false)
  }
  stage.onpointercancel = () => {
    drag = map.lasso = null
    map.ask(false)
  }
  stage.onpointerleave = () => drag || hoverOver(map, -1)
  stage.oncontextmenu = (event) => event.preventDefault()
  const zoom = (by, here) => {
    const box = map.boxes()[here.place], before = map.look(box).scale
    map.zoom = Math.min(200, Math.max(0.3, map.zoom * by))
    const after = map.look(box).scale, [x, y] = [(2 * here.x) / box.width - 1, 1 - (2 * here.y) / box.height]
    map.centre = [map.centre[0] + x / before[0] - x / after[0], map.centre[1] + y / before[1] - y / after[1]]
    map.ask()
  }
  const middle = () => ({ place: 0, x: map.boxes()[0].width / 2, y: map.height / 2 })
  stage.addEventListener("wheel", (event) => {
    event.preventDefault()
    zoom(Math.exp(-Math.sign(event.deltaY) * Math.min(0.35, Math.abs(event.deltaY) / 400)), place(event))
  }, { passive: false })
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
  stage.onkeydown = (event) => {
    const letter = event.key.toLowerCase()
    if (event.ctrlKey || event.metaKey || event.altKey) return
    if (ways[event.key] && (event.shiftKey || map.frameBox)) boxed(map, ...ways[event.key], event.shiftKey)
    else if (ways[event.key]) {
      map.cursor = map.hover >= 0 ? map.hover : map.cursor ?? map.picked ?? -1
      const next = beyond(map, map.side, map.cursor, ...ways[event.key])
      if (next >= 0) hoverOver(map, (map.cursor = next), map.side, true)
    } else if (event.key === "Enter") {
      if (map.frameBox) take(map, map.frameBox.place, cornersOf(map.frameBox))
      else if (map.hover >= 0) map.send.picked(map.hover)
    } else if (event.key === "Escape") {
      const open = map.frameBox || map.lassoing
      map.frameBox = null
      map.arm(false)
      hoverOver(map, -1)
      map.ask(false)
      if (!open && map.selected.length) map.choose([], "")
    } else if (letter === "m" && map.mode === "both") {
      Object.assign(map, { side: 1 - map.side, frameBox: null })
      const row = map.hover >= 0 ? map.hover : map.cursor ?? map.picked ?? -1
      map.ask(false)
      hoverOver(map, row, map.side, true)
    } else if (letter === "l") map.arm(!map.lassoing)
    else if (event.key === "+" || event.key === "=") zoom(1.4, middle())
    else if (event.key === "-") zoom(1 / 1.4, middle())
    else if (event.key === "0") map.reset()
    else if (letter === "z") map.zoomToPicked()
    else return
    event.preventDefault()
    event.stopPropagation() // the arrows are the page's shortcuts elsewhere
  }
}
