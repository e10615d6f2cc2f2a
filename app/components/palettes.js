// Numbers to colours. "heat" is viridis (perceptually uniform, safe under colour blindness), from a
// few of its own values; "diverging" goes from blue over a neutral middle to orange.

const ANCHORS = {
  heat: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  diverging: ["#08519c", "#3182bd", "#85b9dd", "#f2f2f0", "#f5b26b", "#e07b1a", "#994a00"],
}
const MASK = [230, 149, 0] // Okabe and Ito's orange: the more, the less transparent
const LEVELS = 256

function rgb(hex) {
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16))
}

// LEVELS colours as red, green, blue, alpha.
function lookup(palette) {
  const table = new Uint8ClampedArray(4 * LEVELS)
  const anchors = (ANCHORS[palette] ?? ANCHORS.heat).map(rgb)
  for (let level = 0; level < LEVELS; level++) {
    const share = level / (LEVELS - 1)
    if (palette === "mask") {
      table.set([...MASK, 255 * share], 4 * level)
      continue
    }
    const place = share * (anchors.length - 1), below = Math.min(Math.floor(place), anchors.length - 2)
    const [from, to] = [anchors[below], anchors[below + 1]]
    table.set([...from.map((value, i) => value + (place - below) * (to[i] - value)), 255], 4 * level)
  }
  return table
}

const TABLES = Object.fromEntries(["heat", "diverging", "mask"].map((name) => [name, lookup(name)]))

function table(palette) {
  return TABLES[palette] ?? TABLES.heat
}

// The lowest and the highest number of maps; null where all is blank.
function reach(maps) {
  let low = Infinity, high = -Infinity
  for (const map of maps) for (const row of map) for (const value of row) {
    if (value === null) continue
    if (value < low) low = value
    if (value > high) high = value
  }
  return low > high ? null : [low, high]
}

// What to say of maps without any range of numbers; nothing where they have one.
function flat(maps) {
  const found = reach(maps)
  if (!found) return "blank everywhere"
  return found[0] === found[1] ? `${number(found[0])} everywhere` : ""
}

// A map's own range in lines: that of its colours, and that of its numbers where it is another one.
function rangeInWords(map, colours) {
  const [drawn, found] = [colours, reach([map])].map((range) => range?.map(number).join(" to "))
  if (flat([map])) return [flat([map])]
  return drawn === found ? [drawn] : [`colours ${drawn},`, `values ${found}`]
}

function extent(maps, palette) {
  const found = reach(maps)
  if (!found) return [0, 1]
  const [low, high] = found
  if (palette === "diverging") { // about zero, or its neutral colour would lie
    const far = Math.max(Math.abs(low), Math.abs(high)) || 1
    return [-far, far]
  }
  if (palette === "mask") return [Math.min(0, low), high > 0 ? high : 1]
  return low === high ? [low, low + (Math.abs(low) || 1)] : [low, high]
}

// The [low, high] of every tile: its own, a given one, or that of all tiles with its palette.
function scales(tiles) {
  const shared = {}
  return tiles.map((tile) => {
    if (!tile.map) return null
    const palette = tile.palette ?? "heat"
    if (Array.isArray(tile.scale)) return tile.scale
    if (tile.scale === "own") return extent([tile.map], palette)
    const together = (other) => other.map && (other.palette ?? "heat") === palette && (other.scale ?? "shared") === "shared"
    shared[palette] ??= extent(tiles.filter(together).map((other) => other.map), palette)
    return shared[palette]
  })
}

// Over a picture what is near nothing (or neutral) lets it through, or the picture would drown.
function presence(palette, share) {
  if (palette === "mask") return 1
  return 0.3 + 0.7 * (palette === "diverging" ? Math.abs(2 * share - 1) : share)
}

// A map on a canvas with one pixel per position, or several where it is to be saved; over: whether
// there is a picture below.
function paint(map, palette, [low, high], over, enlarge = 1, smooth = false) {
  const [height, width] = [map.length, map[0].length]
  const canvas = make("canvas")
  canvas.width = width
  canvas.height = height
  const pen = canvas.getContext("2d"), image = pen.createImageData(width, height), colours = table(palette)
  map.forEach((row, y) => row.forEach((value, x) => {
    if (value === null) return // stays transparent
    const share = Math.min(1, Math.max(0, (value - low) / (high - low || 1)))
    const level = 4 * Math.round(share * (LEVELS - 1))
    const pixel = 4 * (y * width + x)
    image.data.set(colours.subarray(level, level + 4), pixel)
    if (over) image.data[pixel + 3] *= presence(palette, share)
  }))
  pen.putImageData(image, 0, 0)
  if (enlarge === 1) return canvas
  const large = make("canvas")
  large.width = width * enlarge
  large.height = height * enlarge
  const brush = large.getContext("2d")
  brush.imageSmoothingEnabled = smooth
  brush.drawImage(canvas, 0, 0, large.width, large.height)
  return large
}

function gradient(palette) {
  const colours = table(palette)
  const stops = [...Array(17).keys()].map((place) => {
    const [red, green, blue, alpha] = colours.subarray(4 * Math.round((place * (LEVELS - 1)) / 16))
    return `rgba(${red},${green},${blue},${(alpha / 255).toFixed(3)})`
  })
  return stops
}

// Three digits, and no more zeros than needed.
function number(value) {
  if (value === 0) return "0"
  const size = Math.abs(value)
  const rounded = Number(value.toPrecision(3))
  return size < 0.001 || size >= 100_000 ? rounded.toExponential() : String(rounded)
}
