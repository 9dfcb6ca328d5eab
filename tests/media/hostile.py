"""Files that point at other files and addresses, and a watch that sees whether anything follows them."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from media.make import pictures, png, tone, write_audio, write_video

IN_OPEN = 0x20
_LIBC = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Sees every open of the watched files, by any process: the kernel tells it, so no library can hide one."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.fd = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.names = {_LIBC.inotify_add_watch(self.fd, os.fsencode(path), IN_OPEN): path.name for path in paths}
        assert min(self.names) > 0, os.strerror(ctypes.get_errno())

    def opened(self) -> list[str]:
        """The files opened since the last call."""
        try:
            events = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(events):
            watch, _, _, size = struct.unpack_from("iIII", events, at)
            found.append(self.names[watch])
            at += 16 + size
        return found


class Targets:
    """What nobody may open or connect to: sound beside the playlists and elsewhere, a FIFO, a server."""

    def __init__(self, folder: Path, elsewhere: Path) -> None:
        self.folder = folder
        self.beside = write_audio(folder / "beside.ts", tone(0.5), codec="mp2")
        self.elsewhere = write_audio(elsewhere / "elsewhere.ts", tone(0.5), codec="mp2")
        self.picture = folder / "img001.png"
        self.picture.write_bytes(png())
        self.fifo = elsewhere / "fifo.ts"
        os.mkfifo(self.fifo)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.host = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.watch = Watch([self.beside, self.elsewhere, self.picture, self.fifo])

    def connections(self) -> int:
        count = 0
        while True:
            try:
                self.server.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    def reached(self) -> list[str]:
        """What was opened or connected to since the last call."""
        return self.watch.opened() + ["a connection"] * self.connections()

    def addresses(self) -> dict[str, str]:
        """What a playlist may name, by kind."""
        return {
            "beside": self.beside.name,
            "elsewhere": str(self.elsewhere),
            "file": f"file:{self.elsewhere}",
            "fifo": str(self.fifo),
            "http": f"http://{self.host}/a.ts",
            "tcp": f"tcp://{self.host}",
            "concat": f"concat:{self.elsewhere}|{self.beside}",
            "subfile": f"subfile:,,start,0,end,0,,:{self.elsewhere}",
        }


def playlists(targets: Targets) -> dict[str, bytes]:
    """Name (with its own suffix) -> content of every playlist and redirector."""
    made: dict[str, bytes] = {}
    for kind, to in targets.addresses().items():
        texts = {
            f"hls_{kind}.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{to}\n#EXT-X-ENDLIST\n",
            f"map_{kind}.m3u8": "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n"
            f'#EXT-X-MAP:URI="{to}"\n#EXT-X-KEY:METHOD=AES-128,URI="{to}"\n#EXTINF:1,\n{to}\n#EXT-X-ENDLIST\n',
            f"master_{kind}.m3u8": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{to}\n",
            f"plain_{kind}.m3u": f"{to}\n",
            f"concat_{kind}.ffconcat": f"ffconcat version 1.0\nfile '{to}'\n",
            f"dash_{kind}.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'profiles="urn:mpeg:dash:profile:isoff-main:2011" mediaPresentationDuration="PT1S" minBufferTime="PT1S">'
            '<Period><AdaptationSet mimeType="audio/mp4" contentType="audio"><Representation id="0" bandwidth="1">'
            f'<BaseURL>{to}</BaseURL><SegmentList duration="1"><Initialization sourceURL="{to}"/>'
            f'<SegmentURL media="{to}"/></SegmentList></Representation></AdaptationSet></Period></MPD>\n',
            f"imf_{kind}.xml": '<?xml version="1.0"?>\n<CompositionPlaylist '
            'xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>urn:uuid:0</Id>'
            f"<EditRate>24 1</EditRate><SegmentList>{to}</SegmentList></CompositionPlaylist>\n",
            f"asx_{kind}.asx": f'<ASX version="3.0"><ENTRY><REF HREF="{to}"/></ENTRY></ASX>\n',
            f"reference_{kind}.wmx": f"[Reference]\r\nRef1={to}\r\n",
            f"real_{kind}.ram": f"{to}\n--stop--\n",
            f"smil_{kind}.smil": f'<smil><body><audio src="{to}"/></body></smil>\n',
            f"pls_{kind}.pls": f"[playlist]\nFile1={to}\nNumberOfEntries=1\n",
            f"xspf_{kind}.xspf": '<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>'
            f"<track><location>{to}</location></track></trackList></playlist>\n",
        }
        made |= {name: text.encode() for name, text in texts.items()}
        made[f"movie_{kind}.mov"] = reference_movie(to)
    sound = write_audio(targets.folder / "sound.mov", tone(0.2)).read_bytes()
    (targets.folder / "sound.mov").unlink()
    made["alias_beside.mov"] = alias_movie(sound, str(targets.beside))
    made["alias_elsewhere.mov"] = alias_movie(sound, str(targets.elsewhere))
    made["session.sdp"] = (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {targets.host[10:]} RTP/AVP 0\n"
    ).encode()
    return made


def _atom(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def reference_movie(to: str) -> bytes:
    """A QuickTime movie that is nothing but a reference to another one."""
    where = to.encode() + b"\0"
    data = _atom(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(where)), where)
    return _atom(b"ftyp", b"qt  \0\0\0\0qt  ") + _atom(b"moov", _atom(b"rmra", _atom(b"rmda", data)))


def alias_movie(movie: bytes, path: str) -> bytes:
    """A QuickTime movie whose samples lie in another file, which a Macintosh alias names by its absolute path."""
    where = path.encode() + bytes(len(path) % 2)
    # volume and file name, levels up and down, then typed records; 2 is an absolute path
    record = bytes(10) + bytes(28) + bytes(12) + bytes(64) + bytes(16) + bytes(4) + bytes(16)
    record += struct.pack(">HH", 2, len(where)) + where + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    return _rewritten(movie, _atom(b"dref", struct.pack(">II", 0, 1), entry))


def _rewritten(atoms: bytes, dref: bytes) -> bytes:
    """Atoms with every `dref` among them replaced; the samples lie before them, so that no offset moves."""
    parts, at = [], 0
    while at < len(atoms):
        size, kind = struct.unpack_from(">I4s", atoms, at)
        whole = atoms[at : at + size]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            whole = _atom(kind, _rewritten(whole[8:], dref))
        parts.append(dref if kind == b"dref" else whole)
        at += size
    return b"".join(parts)


def subtitle_index(folder: Path) -> tuple[Path, Path]:
    """(A VobSub index, the file beside it that holds its pictures)."""
    index, held = folder / "subtitles.idx", folder / "subtitles.sub"
    index.write_text("# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n")
    held.write_bytes(write_video(folder / "of.mpg", pictures(3), codec="mpeg2video").read_bytes())
    return index, held


def lantern(folder: Path) -> tuple[Path, Path]:
    """(A Magic Lantern recording, its second file, which FFmpeg looks for by name)."""
    head = struct.pack("<4sI8sQHHIHHIIII", b"MLVI", 52, b"v2.0\0\0\0\0", 1, 0, 2, 0, 1, 0, 1, 0, 25, 1)
    first, second = folder / "shot.MLV", folder / "shot.M00"
    first.write_bytes(head + bytes(64))
    second.write_bytes(head + bytes(64))
    return first, second
