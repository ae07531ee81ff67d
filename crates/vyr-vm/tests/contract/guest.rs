//! A guest of a few instructions, as the ELF file that VMMs take for a kernel.
//!
//! It is entered as PVH says: 32 bits, no paging, nothing set up. Each instruction here means the
//! same there whatever the VMM.

/// Where it lies in the guest's memory: the first byte above the first megabyte.
const AT: u32 = 0x10_0000;

/// Where its instructions are in the file.
const CODE: usize = 0x1000;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// What it does once it has spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Asks the keyboard's controller for a reset, as Linux does with `reboot=k`.
    Keyboard,
    /// Dots, with a pause between them, for ever.
    Talk,
    /// A fault without anybody to take it, thrice, as Linux does with `reboot=t`.
    Fault,
}

/// The file.
pub(crate) fn elf(words: &str, then: Then) -> Vec<u8> {
    let code = code(words, then);
    let note = note();
    let note_at = HEADER + 2 * PROGRAM_HEADER;
    let mut file = Vec::new();
    // ELF, 64 bits, little-endian, version 1.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1]);
    file.resize(16, 0);
    file.extend(2u16.to_le_bytes()); // executable
    file.extend(62u16.to_le_bytes()); // x86-64
    file.extend(1u32.to_le_bytes());
    file.extend(u64::from(AT).to_le_bytes()); // entry
    file.extend((HEADER as u64).to_le_bytes()); // program headers
    file.extend(0u64.to_le_bytes()); // no section headers
    file.extend(0u32.to_le_bytes());
    for half in [HEADER, PROGRAM_HEADER, 2, 64, 0, 0] {
        file.extend(u16::try_from(half).expect("small").to_le_bytes());
    }
    program_header(&mut file, 1, 7, CODE, code.len(), 0x1000);
    program_header(&mut file, 4, 4, note_at, note.len(), 4);
    file.extend(note);
    file.resize(CODE, 0);
    file.extend(code);
    file
}

fn program_header(file: &mut Vec<u8>, kind: u32, flags: u32, at: usize, size: usize, align: u64) {
    file.extend(kind.to_le_bytes());
    file.extend(flags.to_le_bytes());
    let memory = if kind == 1 { u64::from(AT) } else { 0 };
    for field in [at as u64, memory, memory, size as u64, size as u64, align] {
        file.extend(field.to_le_bytes());
    }
}

/// `XEN_ELFNOTE_PHYS32_ENTRY`: where to enter.
fn note() -> Vec<u8> {
    let mut note = Vec::new();
    for field in [4u32, 8, 18] {
        note.extend(field.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(u64::from(AT).to_le_bytes());
    note
}

fn code(words: &str, then: Then) -> Vec<u8> {
    let mut code = vec![0xba]; // mov edx, the first serial port
    code.extend(0x3f8u32.to_le_bytes());
    for byte in words.bytes() {
        code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
    }
    match then {
        Then::Keyboard => code.extend([0xb0, 0xfe, 0xe6, 0x64]), // mov al, 0xfe; out 0x64, al
        Then::Fault => {
            // lidt [a table without entries]; int3
            let table = AT + u32::try_from(code.len()).expect("small") + 7 + 1 + 3;
            code.extend([0x0f, 0x01, 0x1d]);
            code.extend(table.to_le_bytes());
            code.push(0xcc);
        }
        Then::Talk => {
            code.push(0xb9); // mov ecx, turns
            code.extend(0x8000u32.to_le_bytes());
            code.extend([0xe2, 0xfe]); // loop, to itself
            code.extend([0xb0, b'.', 0xee]); // mov al, '.'; out dx, al
            code.extend([0xeb, 0xf4]); // back to the turns
        }
    }
    code.extend([0xf4, 0xeb, 0xfd]); // hlt, again and again
    code.extend([0; 6]); // the table
    code
}
