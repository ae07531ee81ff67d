//! A text as a QR code, for a screen: the light parts are painted too, so it is read the same on a
//! dark terminal and on a light one.

use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

use super::RenderError;

/// Modules of light around a code (ISO/IEC 18004).
const QUIET: usize = 4;
/// Pixels of a module in an image.
const SCALE: usize = 8;
/// Black on white of the 256-colour cube, which no terminal's theme changes.
const PAINT: &str = "\x1b[38;5;16;48;5;231m";
const PLAIN: &str = "\x1b[0m";

/// A square of modules with the light around it.
struct Code {
    modules: Vec<Color>,
    width: usize,
}

impl Code {
    fn of(text: &str) -> Result<Self, RenderError> {
        // A screen is not scratched: the least of corrections, so the fewest modules.
        let code = QrCode::with_error_correction_level(text, EcLevel::L)
            .map_err(|_| RenderError::QrTooLong(text.len()))?;
        Ok(Self { width: code.width(), modules: code.into_colors() })
    }

    fn side(&self) -> usize {
        self.width + 2 * QUIET
    }

    /// Whether the module there is dark; around the code all are light.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < self.width);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => self.modules[y * self.width + x] == Color::Dark,
            _ => false,
        }
    }
}

/// For a terminal: two modules a character, one above the other.
pub(super) fn terminal(text: &str) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let code = Code::of(text)?;
    let mut lines = Zeroizing::new(String::new());
    for y in (0..code.side()).step_by(2) {
        lines.push_str(PAINT);
        for x in 0..code.side() {
            lines.push(match (code.is_dark(x, y), code.is_dark(x, y + 1)) {
                (false, false) => ' ',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (true, true) => '\u{2588}',
            });
        }
        lines.push_str(PLAIN);
        lines.push('\n');
    }
    Ok(Zeroizing::new(lines.as_bytes().to_vec()))
}

/// As an image.
pub(super) fn png(text: &str) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let code = Code::of(text)?;
    let side = code.side() * SCALE;
    let mut pixels = Zeroizing::new(Vec::with_capacity(side * side));
    for y in 0..side {
        for x in 0..side {
            pixels.push(if code.is_dark(x / SCALE, y / SCALE) { 0 } else { u8::MAX });
        }
    }
    let mut bytes = Zeroizing::new(Vec::new());
    // At most 177 modules and the quiet around them, times the scale.
    let size = u32::try_from(side).unwrap_or(u32::MAX);
    let mut image = png::Encoder::new(&mut *bytes, size, size);
    image.set_color(png::ColorType::Grayscale);
    image.set_depth(png::BitDepth::Eight);
    let mut writer = image.write_header().map_err(RenderError::Image)?;
    writer.write_image_data(&pixels).map_err(RenderError::Image)?;
    writer.finish().map_err(RenderError::Image)?;
    Ok(bytes)
}
