"""Which container formats are opened, and what else a file may turn out to be."""

from __future__ import annotations

# FFmpeg's demuxers for files that hold sound or pictures themselves. Everything else it knows is left out:
# playlists and scripts that name other files or addresses (hls, dash, concat, sdp, imf, rtsp, vobsub), formats that
# look for other files beside the one they are given (image2, mlv), text and subtitles (tty draws any text as video),
# devices, still pictures nobody calls media, and headerless samples whose rate nobody tells.
_FORMATS = """
    3dostr 4xm aa aac aax ac3 ac4 ace acm act adp ads adx aea afc aiff aix alp amr amrnb amrwb anm apac apc ape apm
    apng aptx aptx_hd apv argo_asf argo_brp argo_cvg asf asf_o ast au av1 avi avr avs avs2 avs3 bethsoftvid bfi bfstm
    bink binka bit bmv boa bonk brstm c93 caf cavsvideo cdg cdxl cine codec2 daud dcstr derf dfa dfpwm dhav dirac
    dnxhd dsf dsicin dss dts dtshd dv dxa ea ea_cdata eac3 epaf evc film_cpk filmstrip flac flic flv frm fsb fwse g722
    g723_1 g726 g726le g728 g729 gdv genh gif gsm gxf h261 h263 h264 hca hcom hevc hnm hxvs iamf idcin iff ifv ilbc
    ingenient ipmovie ipu ircam iss iv8 ivf ivr jpegxl_anim jv kux kvag laf lc3 live_flv lmlm4 loas luodat lvf lxf m4v
    matroska mca mgsts mjpeg mjpeg_2000 mlp mm mmf mods moflex mov mp3 mpc mpc8 mpeg mpegts mpegtsraw mpegvideo
    mpjpeg msf msnwctcp mtaf mtv musx mv mvi mxf mxg nc nistsphere nsp nsv nut nuv obu ogg oma osq paf pdv pmp pp_bnk
    psxstr pva pvf qcp qoa r3d redspark rka rl2 rm roq rpl rsd rso s337m sbc scd sdns sdr2 sds sdx ser sga shn siff
    simbiosis_imx sln smjpeg smk smush sol sox spdif svag svs swf tak thp tiertexseq tmv truehd tta ty usm vag vc1
    vc1test vividas vivo vmd voc vpk vqf vvc w64 wady wav wavarc wc3movie webp_anim wsaud wsd wsvqa wtv wv wve xa xmd
    xmv xvag xwma yop yuv4mpegpipe
    bmp_pipe jpeg_pipe png_pipe tiff_pipe webp_pipe
"""
WHITELIST = ",".join(_FORMATS.split())

# What files that are no media begin with: the first that fits names the file.
_BEGINNINGS = (
    (b"#extm3u", "an HLS or M3U playlist"),
    (b"ffconcat version", "a list for FFmpeg's concat"),
    (b";ffmetadata", "FFmpeg's metadata as text"),
    (b"v=0", "an SDP session description"),
    (b"# vobsub index file", "an index of subtitles (VobSub)"),
    (b"webvtt", "subtitles (WebVTT)"),
    (b"[playlist]", "a PLS playlist"),
    (b"[reference]", "an ASX reference"),
    (b"<asx", "an ASX playlist"),
    (b"<smil", "a SMIL presentation"),
    (b"smiltext", "a SMIL presentation"),
    (b"rtsptext", "a QuickTime reference to an address"),
    (b"rtsp:", "a reference to an address"),
    (b"pnm:", "a reference to an address"),
    (b"http:", "a reference to an address"),
    (b"https:", "a reference to an address"),
    (b"file:", "a reference to another file"),
    (b"mlvi", "a Magic Lantern recording, which is spread over several files"),
)
_INSIDE = (
    (b"<mpd", "a DASH manifest"),
    (b"<smoothstreamingmedia", "a Smooth Streaming manifest"),
    (b"<compositionplaylist", "an IMF composition playlist"),
    (b"<assetmap", "an IMF asset map"),
    (b"xspf.org", "an XSPF playlist"),
    (b"<asx", "an ASX playlist"),
    (b"<smil", "a SMIL presentation"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
)


def kind_of(head: bytes) -> str | None:
    """What a file that holds no media is, by its first bytes: "a DASH manifest"; None where they do not tell."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, kind in _BEGINNINGS:
        if text.startswith(mark):
            return kind
    return next((kind for mark, kind in _INSIDE if text.startswith(b"<") and mark in text), None)
