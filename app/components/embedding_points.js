// Points in WebGL: where they are is sent to the graphics card once, how they look whenever it changes.

const VERTEX = `
attribute vec3 first, second;
attribute vec4 colour;
attribute float mark; // 1 query, 2 selected, 4 turned upside down
uniform mat3 turn;
uniform vec2 centre, scale;
uniform float part, size, deep;
uniform mediump float strong; // as precise as in the fragments, or they don't link
varying vec4 tint;
varying float query, chosen, pixels, way;
void main() {
  vec3 at = turn * mix(first, second, part);
  gl_Position = vec4((at.xy - centre) * scale, -0.5 * at.z * deep, 1.0);
  query = mod(mark, 2.0);
  chosen = step(2.0, mod(mark, 4.0));
  way = 1.0 - 2.0 * step(4.0, mark);
  float near = 1.0 + 0.4 * deep * at.z;
  gl_PointSize = size * near * (1.0 + 0.45 * strong) * (1.0 + 0.5 * query) + 0.6 * size * chosen;
  pixels = gl_PointSize;
  tint = colour;
}`

// A gallery image is a dot, a query a triangle (on its tip where it is turned); a halo around what is
// selected.
const FRAGMENT = `
precision mediump float;
varying vec4 tint;
varying float query, chosen, pixels, way;
uniform vec3 ink, paper;
uniform float strong;
void main() {
  vec2 at = 2.0 * gl_PointCoord - 1.0;
  float grow = 1.0 + 0.4 * chosen; // the halo makes the point's square larger, not the point
  float disc = length(at) * grow;
  float side = max(abs(at.x) * 0.866 - way * at.y * 0.5, way * at.y) * 1.55 * grow + 0.12;
  float far = mix(disc, side, query);
  float soft = 2.5 / pixels;
  float inside = 1.0 - smoothstep(1.0 - soft, 1.0, far);
  float rim = smoothstep(0.72 - soft, 0.72, far) * strong;
  vec3 fill = mix(tint.rgb, paper, rim * 0.85);
  float ring = 0.8 * chosen * (1.0 - smoothstep(0.04, 0.04 + soft, abs(length(at) - 0.9)));
  float cover = max(inside * tint.a, ring);
  if (cover < 0.04) discard;
  gl_FragColor = vec4(mix(fill, ink, ring * (1.0 - inside)) * cover, cover);
}`

function compiled(gl) {
  const program = gl.createProgram()
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind)
    gl.shaderSource(shader, text)
    gl.compileShader(shader)
    gl.attachShader(program, shader)
  }
  gl.linkProgram(program)
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program))
  gl.useProgram(program)
  return program
}

// places: one or two Float32Array (3 N). Returns null where there is no WebGL.
function painter(canvas, places) {
  const gl = canvas.getContext("webgl", { antialias: true, alpha: true, premultipliedAlpha: true })
  if (!gl) return null
  let program
  try {
    program = compiled(gl)
  } catch (problem) {
    console.warn("embedding map:", problem)
    return null
  }
  const attribute = (name, size, type = gl.FLOAT) => {
    const buffer = gl.createBuffer(), at = gl.getAttribLocation(program, name)
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer)
    gl.enableVertexAttribArray(at)
    gl.vertexAttribPointer(at, size, type, type !== gl.FLOAT && name === "colour", 0, 0)
    return (values) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer)
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW)
    }
  }
  attribute("first", 3)(places[0])
  attribute("second", 3)(places[places.length - 1])
  const colour = attribute("colour", 4, gl.UNSIGNED_BYTE), mark = attribute("mark", 1, gl.UNSIGNED_BYTE)
  const uniform = Object.fromEntries(["turn", "centre", "scale", "part", "size", "deep", "strong", "ink", "paper"]
    .map((name) => [name, gl.getUniformLocation(program, name)]))
  const order = { quiet: gl.createBuffer(), strong: gl.createBuffer() }, count = { quiet: 0, strong: 0 }
  const wide = places[0].length / 3 > 65_535 && gl.getExtension("OES_element_index_uint")
  const Index = wide ? Uint32Array : Uint16Array
  gl.enable(gl.BLEND)
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA)
  gl.depthFunc(gl.LEQUAL)
  return {
    lost: () => gl.isContextLost(),
    end: () => gl.getExtension("WEBGL_lose_context")?.loseContext(),
    colour,
    mark,
    // Rows that stand back and rows that stand out, which are drawn on top of them.
    layers(quiet, strong) {
      for (const [name, rows] of Object.entries({ quiet, strong })) {
        gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, order[name])
        gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, Index.from(rows), gl.STATIC_DRAW)
        count[name] = rows.length
      }
    },
    clear() {
      gl.viewport(0, 0, canvas.width, canvas.height)
      gl.clearColor(0, 0, 0, 0)
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT)
    },
    // box: x, y, width, height in canvas pixels; look: turn, centre, scale, part, size, deep, ink, paper.
    draw(box, look) {
      gl.viewport(...box)
      gl.scissor(...box)
      gl.enable(gl.SCISSOR_TEST)
      gl[look.deep ? "enable" : "disable"](gl.DEPTH_TEST)
      gl.uniformMatrix3fv(uniform.turn, false, look.turn)
      gl.uniform2fv(uniform.centre, look.centre)
      gl.uniform2fv(uniform.scale, look.scale)
      for (const name of ["part", "size", "deep"]) gl.uniform1f(uniform[name], look[name])
      for (const name of ["ink", "paper"]) gl.uniform3fv(uniform[name], look[name])
      for (const name of ["quiet", "strong"]) {
        gl.clear(gl.DEPTH_BUFFER_BIT)
        gl.uniform1f(uniform.strong, name === "strong" ? 1 : 0)
        gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, order[name])
        gl.drawElements(gl.POINTS, count[name], wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT, 0)
      }
      gl.disable(gl.SCISSOR_TEST)
    },
  }
}

// The same arithmetic as the vertex shader: where each point is within a box, in its pixels.
function projected(first, second, look, width, height, into) {
  const [a, b, c, d, e, f] = [0, 3, 6, 1, 4, 7].map((place) => look.turn[place])
  const [sx, sy] = look.scale, [cx, cy] = look.centre, part = look.part
  for (let row = 0, at = 0; at < first.length; row += 2, at += 3) {
    const x = first[at] + part * (second[at] - first[at])
    const y = first[at + 1] + part * (second[at + 1] - first[at + 1])
    const z = first[at + 2] + part * (second[at + 2] - first[at + 2])
    into[row] = (0.5 + 0.5 * (a * x + b * y + c * z - cx) * sx) * width
    into[row + 1] = (0.5 - 0.5 * (d * x + e * y + f * z - cy) * sy) * height
  }
  return into
}

// A turn by two angles after another one, as the nine numbers WebGL wants (column by column).
function turned(by, sideways, upwards) {
  const [cs, ss, cu, su] = [Math.cos(sideways), Math.sin(sideways), Math.cos(upwards), Math.sin(upwards)]
  const more = [[cs, 0, ss], [su * ss, cu, -su * cs], [-cu * ss, su, cu * cs]]
  const result = new Float32Array(9)
  for (let row = 0; row < 3; row++) for (let column = 0; column < 3; column++)
    for (let k = 0; k < 3; k++) result[3 * column + row] += more[row][k] * by[3 * column + k]
  return result
}

function decoded(text, Kind) {
  const raw = atob(text), bytes = new Uint8Array(raw.length)
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at)
  return new Kind(bytes.buffer)
}
