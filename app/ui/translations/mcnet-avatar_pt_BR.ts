<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="pt_BR" sourcelanguage="en">
    <context>
        <name>mcnet-avatar</name>
        <message>
            <source>A folder for recordings</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A folder…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A lattice drawn on the portrait, moved as the portrait is</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A model's folder, or that of a run that learns</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A phone with a camera app, or any camera with an address on your network</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A picture as background</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A picture for the slate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A picture of yours</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A picture of yours that the slate shows</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A picture of yours that the slate shows; now: {file}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A safe start avoids what may have been the cause: the processor computes, there is no virtual camera, and all settings are the defaults. Your own are kept for the next start.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>A video in the camera's place</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>AKD of copying</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Absolute</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Add a picture from a file</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Add a picture from the clipboard</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Add a picture of yours (Ctrl+O), or drop one anywhere</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Add a portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Add the picture in the clipboard (Ctrl+V)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Add yours…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Add…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Adjust the crop</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Always dark</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Always light</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Another colour</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Another file…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>As the desktop</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>As the system</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Attention</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Automatic</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Automatic crop</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Automatic: {device}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Avatar</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Back to the preview (Escape)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Background</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Background: {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Before and after the memory compensates them, by the same principal components</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Blinks, and eyes wide open.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Blur</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Brows</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>CALIBRATING</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Calibrate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Calibrate (F)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Calibrate hands-free (F)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Calibrate hands-free: the best frame of a second or two</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Calibrate: this very frame is the reference</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Call this picture of yours something else (F2)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Calms jitter; a slow movement is shown that much later.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Camera {number}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Cancel</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Chain from the camera to the call</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Change…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Choose two to four views of the network's inside</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Choose {camera}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Close</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Close the programs that use it and load the module again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Close {by}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Colour</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Column</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Command</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Computer</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Controls</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Copy</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Copy this command</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Crop by the face that was found</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Crop of the portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Crop of {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Crop of {name} ({number} of {of})</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Ctrl</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>DROP</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Dark</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Device</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Dismiss</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Do what the message proposes</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Drag the square, or its corners. Keys: arrows move, plus and minus resize, Page Up and Down turn, comma and full stop straighten.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Draw on your picture what was found in it (O).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Drop a picture to add a portrait, or a video to stand in for the camera.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Each part of motion and expression for itself, in space only.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Enable RPM Fusion's free repository (rpmfusion.org tells how), then install it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Enter keeps the name, Escape the one before.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Everything is ready.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Expression</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>FAULT</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Features</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Figures</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Figures: not measured</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Figures: {figures}</source>
            <translation type="unfinished" />
        </message>
        <message numerus="yes">
            <source>Figures: {figures} ({n} clips that it never saw)</source>
            <translation type="unfinished">
                <numerusform />
            </translation>
        </message>
        <message>
            <source>Find the fastest way to run the model on this computer (a few seconds), and remember it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Fine-tune</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>First steps</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Flip what the call sees (T).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Folder of recordings</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Framing</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Generated</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Give the output to call programs as a camera. It starts with the slate; then go live.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Go live</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Go live, or stop</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>HOLD</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Hands-free</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Have it at every start of the system</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Heard: {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Hide</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>How far the enlarged portrait is sharpened.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>How far the head moves.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>How large the portrait stands in the picture.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>How long a process of its own was busy with computing one frame once more</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>How much of the crop your face fills (W and S).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>How often calls and recordings get a picture.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>How strongly mouth, eyes and brows move.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>I may use this picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>IDLE</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>If there is none, the device keeps an old format: free it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>In a call</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>In space</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>In the plane</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Inside the network</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Install OBS Studio 30 or newer from {address}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Install OBS Studio from {address} (it need not run), then restart your call program</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Install it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Install it (for another kernel than linux, its own headers: linux-lts-headers, say)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Install your distribution's package v4l2loopback (or v4l2loopback-dkms)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>It has no card with figures: nobody has told how good it is (mcnet-train evaluate measures it).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>It is a pickled checkpoint without a card: it is read without running code, but nobody tells how good it is or under which licence it may be used.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>It is worse than showing the portrait as it is: its pictures are off by {copied:.0%} of what that would be.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>It shows me, or the person in it agrees, or nobody real is in it.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Its card is being read…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Join the group of video devices, then log out and in again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Keep this crop and animate it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Keys</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>L1 of copying</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>L1 of copying, of what it learns from</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>LIVE</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Landmarks and keypoints</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Language</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Lattice</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Leave everything as it was (Escape)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Leave the slate up; the call keeps its picture (G)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Let call programs see the output; it starts with the slate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Level</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Level of the microphone</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Licence: {licence}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Lids</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Lift slate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Light</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Lips, jaw and chin.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>List all keys (?)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Load the module</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Look again for a virtual camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Look again for cameras</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Look again for microphones</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Look as the portrait does: the head turned alike, mouth and eyes as far open.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Look as you do at rest: mouth closed, eyes open; any direction will do.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Looking for cameras…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Looking for one…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>MEASURING</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Masks</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Measure</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Measured: {words}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Microphone</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Mirror the output</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Mirror the preview</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Mirror what the call sees</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Missing: {link}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Models (*.safetensors *.pth *.tar);;All files (*)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Motion</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Mouth</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Move the crop down (J)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Move the crop to the left (H)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Move the crop to the right (K)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Move the crop up (U)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>NO CAMERA</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>NO FACE</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Name of the portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nearness</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Network camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Network camera…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>New recordings have your voice, in step with the picture. Switched off, the microphone is closed.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Next portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Next step</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>No camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>No camera was found. Plug one in and refresh, or let a video file stand in for it.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>No card: nobody tells what it learned from, or how good it is</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>No picture goes out any more.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nod</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Not all settings could be used: {said}. All others are in force; {kept}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Not in space: {reason}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Not yet: {missing}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nothing is heard: {trouble}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nothing says under which licence it may be used.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nothing to improve.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nudge</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nudge it down</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nudge it left</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nudge it right</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Nudge the crop up</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Occlusion</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Of the picture that calls and recordings get, in pixels.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Of the window's texts. A change takes effect at the app's next start.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>On: {device}. Choose it in your call program.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>One colour</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>One moment: it is being read…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Open</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Open OBS, press Start Virtual Camera once, allow the extension, press Stop, and restart this app</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Open folder</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Open what is written about this model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>OpenCV does not load: {error}; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>OpenVINO alone knows it, and backend {backend} was chosen; use backend auto, or bf16 or fp32</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>OpenVINO computes on the CPU only, and {device} was chosen</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>OpenVINO was measured on x86-64 CPUs only, and this is {machine}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Opening…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Output and computer</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Output preview</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Output rate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Output size</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Overlay</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>PREVIEW</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Parts of expression</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Parts of motion</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Paste a picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Pause the preview</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Pick one on the left, or add a picture of yours</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Pictures ({endings});;All files (*)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Picture…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Portrait over your picture: fainter</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Portrait over your picture: stronger</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Portrait size</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Portraits</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Pose</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Previous portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Processor</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Put recordings and snapshots elsewhere</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Put the crop back where the face is</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Put the first steps away; they come back under Window</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Put this message away</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Qt's part for sound cannot be loaded ({error}); {remedy}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Quit</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Rate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Read its card</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Recheck</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Record</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Record my microphone</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Record the output (V)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Record, or capture the window with your call program</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Recordings</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Refresh</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Refresh cameras</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Refresh microphones</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Remove</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Remove it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Rename</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Rename a portrait of yours</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>SLATE</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>STANDBY</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>STARTING</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Save a picture of the output</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Save a picture of the output (P)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Saved: {path}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Says in the picture that it is synthetic. Please leave it on when others watch.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Score of the portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Score {score} of 100</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Score {score} of 100: {remarks}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Secure Boot is on: if modprobe says that the key was rejected, enrol the key that signs the module, restart, and confirm it in the blue menu</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>See and adjust the crop</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>See which program it is, and close it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Settings &gt; Privacy &amp; security &gt; Camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Sharpness</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Shift</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show below what is measured (I).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show me the output as in a mirror (R), but for the badge; the call sees it unchanged.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show my camera picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show no face at once (0; from a dialog Ctrl+0)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show or hide my camera picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show the avatar in the preview again (G)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show the avatar to the call (G)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show the checklist of the first launch.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show the controls here</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show the folder of recordings and snapshots</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show the next step</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show the portraits here</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show the slate without a picture again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show what the network does with your motion (N).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Show window</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Size</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Slate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Slate at once: the call sees no face</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Slate says</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Slate's picture…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Smoothing</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Snapshot</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Something unexpected went wrong ({key}): {error}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Something unexpected went wrong in the window: {kind}: {error}. The log tells more.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Sound of recordings</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Speak as you will in the recording: the bar should reach the middle, and not turn red.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Speed here: not measured yet</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Speed here: {frame_ms:.3g} ms per frame, measured</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Square to animate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Start again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Start as usual</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Start or stop the recording</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Start safely</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Statistics</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Status</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Step {number}, {title}: {state}. {text}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Step {step} of {steps}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Still learning: step unknown</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Still learning: step {step}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Still learning: step {step} of {of}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Stop</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Stop everything and quit</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Stop painting it, as saves power; the call and recordings go on.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Stop recording</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Stop the virtual camera in OBS</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Straighten</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Switch on</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Switch the virtual camera off first: a call keeps what it began with.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Switch the virtual camera off first: no model runs.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>System</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>System Settings &gt; Privacy &amp; Security &gt; Camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Take this picture of yours out of the gallery (Delete)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Text of the slate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The address that the camera's app shows, such as http://192.168.1.20:8080/video or rtsp://192.168.1.20/live.
If it wants a password: http://USER:PASSWORD@192.168.1.20:8080/video</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The app did not end in order last time: it crashed or was killed.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The avatar keeps its own face and looks where you look, however you were turned at the calibration.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The avatar moves as you move in the picture since the calibration: the paper's way.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The avatar takes your very pose and face: for a portrait of yourself.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The brows raised and knit.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The camera that sees you. Only the avatar leaves this app, never its picture.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The card beside {name} is of other weights: do not trust what it says.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The first nine portraits</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The head leant towards a shoulder.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The head moved in the picture.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The head moved towards the camera and away from it.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The head raised and lowered.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The head turned to the sides.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The language changes at the next start of the app.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The microphone is being opened…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The model has given no picture for a while, so the output shows the slate. It goes on by itself once there is one; if it stays so, start again.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The model's card</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The network that animates the portrait: the bundled one, or a file or folder of yours.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The one chosen before</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The output shows the slate.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The picture is that late. Set this delay for your microphone (OBS: Advanced audio properties, sync offset) and lips and sound agree.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The portrait over your picture (Z and C); for motion in the plane, to line up the pose.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The portrait {first} is not in the gallery any more; {name} is used.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The portrait's own surroundings, blurred</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The portrait, moved and nothing else</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The preview is paused; the output goes on.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The recording goes on without sound, which failed ({error}). For sound, begin another one.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The recording had not begun: there is no file.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The recording has no sound, since its encoder cannot be opened ({error}). Install the app again.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The same, from a dialog for files or colours too</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The settings could not be read ({error}). Defaults are in use; {kept}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The system does not let this app use the camera. Allow it in System Settings, Privacy.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The system's usual one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The virtual camera {called} does not answer ({cause}).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The virtual camera {called} is in use by another program.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The virtual camera {called} is in use by {by}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The virtual camera {called} is ready, but Chrome and Teams will not list it (exclusive_caps=0).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The virtual camera {called} is ready.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The virtual camera {called} is there, but you may not use it.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The virtual camera {called} takes our pictures.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The virtual camera {name} is ready.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The {camera} is in use: OBS itself or another program writes to it.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The {camera} is installed, but you have not approved it yet.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>The {camera} is ready.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Theme</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no face in this square of {name}: move the square over a face that looks towards the camera, or choose the automatic crop.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no picture in the clipboard: copy one first.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no picture yet to save.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera at {device}: got {what}, expected a device of v4l2loopback.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera for {system}: expected Linux, Windows or macOS.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera in a safe start: start the app again.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera} or UnityCapture's.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera: OBS Studio brings one.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera: OBS is installed, its camera not yet ({camera}).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera: got macOS {release}, expected 13 or newer.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is installed, but not loaded.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is not installed for the kernel {kernel}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>There is nothing to record at the moment: wait until the preview goes on.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>This is a safe start: the processor computes, there is no virtual camera, and all settings are the defaults. Nothing of them is kept; your own are back with the next start.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>This list</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Tick first that you may use this picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Tilt</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Trying again in {seconds} s.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Turn</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Turn to the left</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Turn to the left by a quarter (Page Up)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Turn to the right</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Turn to the right by a quarter (Page Down)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Turns the picture a little (comma and full stop).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Undo</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Update macOS</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Use a video file…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Use a video, in a loop, instead of a camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Use it all the same</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Use this camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Use this portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Videos ({endings});;All files (*)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>View</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Views</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Virtual camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Warped</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What is missing before going live</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What is missing, and what to do</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What the decoder makes of it, with the memory's help</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What the marked place takes from the memory; click to mark another one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What the network does inside</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What the run has learned since cannot be used: {error}. What it had learned before goes on.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What the slate says instead of “Camera is off” or “Be right back”; Enter keeps it.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What to do</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>What will be animated</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Where the model runs. Automatic: where it was measured to be fastest.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Where what is shown came from: the direction as a hue, 20 px and more in full colour</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Which keypoint's motion moves each place, by colour; dark: the background's</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Whose sound recordings have. Calls take theirs from the call program.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Window</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Without</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Yellow: the moved portrait is trusted; blue: the picture is generated</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>You, as only you see yourself</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>You, with the crop that moves the avatar. Nobody else sees this. Click for another size.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Your own picture in the preview's corner (B). Hide it before you share this window.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Zoom</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Zoom in on you</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>Zoom out</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>a camera's number (0), a device (/dev/video0), a network camera's address (http://, rtsp://), a video file, or a folder of pictures</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>a frame of the model takes {best}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>a frame of the model takes {best} ({others})</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>a further GPU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>a picture becomes a portrait, a video the camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>a portrait needs a name: got an empty one for {name}, so it keeps its own</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>a single number</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure under First steps, or use a computer with a GPU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>age</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>an AMD GPU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>an NVIDIA GPU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>an empty file</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>as asked</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>as usual</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>asked for {asked_hz:g} frames/s, gives {given_hz:g} (more light often helps)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>asked for {asked}, gives {given}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>avatar</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>backend: OpenVINO failed: {failure}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>backend: got 'cudagraph', but {device} was chosen, expected a GPU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>backend: got 'cudagraph', but {reason}; use backend auto or torch</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>backend: got 'openvino', but {lack}; use backend torch (or auto), or mend that</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>backend: got {wanted}, expected one of {allowed}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>backend: torch has to compute, but {lack}; or install OpenVINO, and use a CPU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>blue</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>calibration</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera to model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera {device}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera: got an address that begins with {scheme}://, expected http://, https:// or rtsp://</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera: got an address that cannot be read, expected one such as {scheme}://192.168.1.20:8080/video; in a user name or password write / as %2F, @ as %40, # as %23 and ? as %3F</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera: got nothing, expected {expected}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera: got {asked} for size and rate, expected {least_px} to 8192 pixels per side and 1 to 240 frames/s, as @1280x720@30</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>camera: got {shown}, and there is no such file; expected {expected}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot keep the list of portraits in {folder}: {error}; check the disk</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot keep the settings in {path}: {error}; check the folder's permissions</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot make the folder for portraits {folder}: {error}; check the disk</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot make the folder {folder}: {cause}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot open {path} at {fps_hz} frames/s: expected more than 0</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot put the model on {device}: {cause}; use cpu</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot put {name} back: {error}; add the picture again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the face model {path}: {cause}; reinstall the package</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the list of portraits {path}: {error}; check its permissions</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the picture {path}: got a camera's raw data, expected {readable}; export it as JPEG</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the picture {path}: got a device, expected a file</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the picture {path}: got a folder, expected a file; name one of its files</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the picture {path}: got {what}, expected {readable}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the picture {path}: it is damaged, cut short or of a kind that cannot be decoded ({said}); open it in a viewer and save it as JPEG, or take another</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the picture {path}: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the picture {path}: {said}; check its permissions</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the settings in {path}: {error}; check its permissions, or move it away</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the video {path}: got an empty file; export or download it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot record to {path}: got suffix {suffix}, expected .mp4</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot record to {path}: the encoder {codec} cannot be opened for {width_px} x {height_px} ({cause}); choose another size, or install the app again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot record to {path}: there is no folder {parent}; make it first</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot record to {path}: {cause}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot remove {path}: {error}; check the folder's permissions</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot use the file {path}: {cause}; check its name and its folder</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot use the file: {cause}; check its name and its folder</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot use the pictures of {path}: got {name}, {width} x {height}, which cannot be converted ({error}); export it again as H.264 in MP4</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot use {path} as a video: got {what}, expected a video with pictures, such as H.264 in MP4</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot write a picture to {path}: got suffix {suffix}, expected {suffixes}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot write the picture {path}: it is a folder, expected a file name</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>cannot write the picture {path}: {cause}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>choose a disk that takes larger files, or make it shorter</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>choose another place</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>chroma green</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>close your mouth</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>compose</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>crop</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>delay your microphone by {delay_ms} ms</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>device: got {name}, but {lack}; use --device cpu (or auto), or mend that</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>device: got {name}, expected auto, cpu, cuda or cuda:N</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>done</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>dropped</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>dropped {percent:.0f} %</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>encode</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>everything is ready</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>face</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>face lost: returning to rest</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>face lost: the last picture stays</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>getting ready</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>got 32 bits per channel, expected 8 or 16; convert it to JPEG or PNG</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>got Lab colours with a profile that cannot be used; convert it to JPEG or PNG</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>got figures of format {evaluation}, expected 'mcnet-evaluation/2'</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>got pictures of shape {shape}, expected (height, width, 3) of at least {least_px} pixels per side</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>ink</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>install the app again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>int8 with OpenVINO, else {precision}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>it is the fastest on x86-64 CPUs</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>it opens, but gives no frames</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>it was removed meanwhile</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>its first {value:g} s are kept</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>its header is no JSON</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>keypoints</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>lids</source>
            <comment>measure</comment>
            <translation type="unfinished" />
        </message>
        <message>
            <source>light grey</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>live</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>loading the model…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>look as the portrait does</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>look straight into the camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>looking at the model…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>make room on the disk</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>make room: what you may use of the disk is used up</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>measured to be the fastest here</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>measuring</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>measuring…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>mesh</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>model to sinks</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>model {model} gave NaN for the keypoints of this frame: use precision fp32 or another model; the frame is not shown</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>model {model} gave NaN for the {what}: use precision fp32 or another model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>model {model} gave NaN or infinite values for this frame, expected colours in [0, 1]: use precision fp32 or another model; the frame is not shown</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>model {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>mouth</source>
            <comment>measure</comment>
            <translation type="unfinished" />
        </message>
        <message>
            <source>ms</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>needs a hand</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>network camera {address}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>neutral face, any direction</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no camera at {path}: got nothing there; {advice}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no camera picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no camera was found: plug one in, or use a video file</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no camera yet: choose one under Camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no face in {name}: got none that looks towards the camera; take another picture, larger or from the front, or turn this one upright</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no face is shown</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no face was found in it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no face was found in this portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no face: the avatar rests</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no frame of {path} can be decoded: it is damaged or cut short; export it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no model {name_or_path}: got neither a file, a folder nor a bundled name, expected a .safetensors or .pth.tar file or a model's folder (check the path) or one of: {bundled}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no permission for {path} ({name}): run `sudo usermod -aG video $USER`, then log out and in again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no picture at {path}: check the path</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no picture track</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no portrait can be used: add another one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no portrait yet: choose one, or add yours</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no portrait {text}: got neither a file nor a known name ({names}); check the path or the name</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>no video at {path}: check the path</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>none</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>not calibrated yet: look into the camera, or press Calibrate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>not needed in absolute motion</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>not stated</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>nothing</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>nothing here runs model {model}: {reasons}; is another program in the way?</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>nothing of it could be kept</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>nothing yet</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>of unknown version</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>on Debian or Ubuntu: apt-get install libpulse0</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>only sound</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>only you see this</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>open your eyes</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>open your mouth as in the portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>openvino cannot be used: {failure}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>output</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>pictures in a codec that cannot be decoded</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>pine</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>plug it in, or choose another: {there}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>plug one in; no camera is there at all</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>precision: got 'int8', but {lack}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>precision: got fp16 on the CPU, expected fp32 or bf16 there (fp16 is for GPUs)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>precision: got {precision}, expected one of {allowed}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>process {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>reading the portrait…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>recorded frames are the fastest on GPUs</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>recording {path}: got a picture of {got}, expected {shape}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>render</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>runs on</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>see that its app is in front, the phone awake, and both in the same network</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>see whether the disk is slow</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>send</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>setting</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>setting background_colour: got {colour}, expected #rrggbb</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>setting inspector_views: got {views}, expected {least_views} to {most_views} different ones</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>setting slate_text: got {got} characters, expected at most {longest_slate_text}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>setting {name}: got {value}, expected an even number</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>setting {name}: got {value}, expected {low} to {high}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>several people are in it; the largest face is used</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>show your face to the camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>slate grey</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>slate until the camera is back</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>slate until your face is back</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>something else or a damaged file</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>starting…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the Apple GPU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the GPU is not used: {failure}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the background is to be a picture, but none is chosen: choose a file, or another background</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the background picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the calibration is under way</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the call sees the slate</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the camera cannot be used: choose another one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the camera gives no frames: plug it in again, or choose another one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the camera is being opened</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the eyes are hardly open</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the face is close to the picture's border</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the face is small: use a larger picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the face model {path} is not the bundled one: got SHA-256 {found}..., expected {expected}...; reinstall the package</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the figures lack {error}, or have something else in its place: expected what `mcnet-train evaluate --json` wrote</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the folder {path} holds no picture: expected files such as PNG, JPEG or HEIC</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the head is tilted</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the head is turned to the side</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the microphone fails: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the microphone is not there: plug it in, or choose another one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the microphone {description} cannot be opened ({name}): close what else uses it, or choose another one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the microphone {name} gives no sound any more: plug it in again, close what else uses it, or choose another one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the microphone {name} gives no sound: plug it in again, or choose another one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the model cannot be loaded: {reason}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the model gives no pictures: wait, or press Start again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the model has given no picture for {seconds:g} s: wait, or start again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the model is loading</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the mouth is open: teeth and lips will stretch</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the old file could not be moved ({error})</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the old file is kept as {aside}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the output has failed: {reason}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the package openvino is not installed (pip install "mcnet-avatar[openvino]")</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the package torch is not installed (pip install torch)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the picture is soft</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the picture {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the picture {path} is too small: got {width} x {height}, expected at least {least_px} pixels on each side; use a larger one</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the pictures of {path} differ in size: got {own_width} x {own_height} in {name}, expected {width} x {height} as in {first}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the portrait is being prepared</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the process that looks inside the network has ended, perhaps for want of memory; close the view and open it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the recording is not open; open it first</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the recording {detail} is going on already; stop it first</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the recording {path} cannot go on: {cause}; {kept}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the recording {path} failed: {kind}: {error}; {kept}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the settings ask for detected keypoints, and this needs measured ones</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the slate's picture</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the system forbids the camera: allow it in System Settings, Privacy</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the system's privacy settings keep the microphone from this app: allow it there</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the system's sound cannot be used: what asks for it has crashed; start it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the system's sound did not answer within {seconds:g} s: start it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the view into the network is the plain network's, which is torch's, and {lack}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the view into the network was closed; open it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera cannot be opened: see the advice below its switch</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera cannot be opened: {said}; close programs that may write to it, and try again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera cannot be used: pyvirtualcam is not there ({error}); install it with `pip install pyvirtualcam`</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera is being opened</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera is being opened again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera is not open; open it first</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera is off: switch it on for a call</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera is open already ({detail}); close it first</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera takes no pictures any more: switch it on again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera {detail} could not be closed: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the virtual camera {detail} takes no pictures any more: {error}; open it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>the {stage} has failed: {reason}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>there is no GPU {index}: torch finds {device_count}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>there is no microphone: plug one in, or allow it in the system's settings for sound</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>this computer is being measured</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>this model's keypoints are not known points of a face</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>threads: got {threads}, expected at least 1, or None for all cores</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>to do</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>torch is not installed</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>torch {version} (for CUDA {cuda}) finds no usable NVIDIA GPU or driver</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>torch {version} has no NVIDIA driver to compute with</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>torch {version} is a build without CUDA</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>trying {way}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>turn your head as in the portrait</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>unknown {what} {key}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>unknown {what} {prefix}{unknown}; the known ones are {kinds}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>unplug it and plug it in again, close other programs that use it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>v4l2loopback is loaded, but has no device.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>virtual camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>virtual camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>virtual camera: got backend {backend}, expected one of {backends}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>waiting for the weights of the model in use…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>warped L1 of copying</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>warped L1 of copying, of what it learns from</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>wood</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>working…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{busy_ms:.0f} ms each</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{camera} gives a picture of one colour: open its shutter, or switch it on with its key</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{camera} goes on.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{changed} changed</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{delay_ms:.0f} ms</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{device} ({name}) in {precision}, {why}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{device} in {precision} with {backend}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{done} of {steps}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{first} and {then}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{first}, {then}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{first}. {then}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{first}; {then}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{folder} holds no model: got neither {model_file} nor {latest_file}, expected a folder that `mcnet-train export` wrote, or that of a run that has saved what it learned</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{found}, while the machine was busy with something else</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{fps:.0f} fps</source>
            <translation type="unfinished" />
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} frames</source>
            <translation type="unfinished">
                <numerusform />
            </translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} pictures</source>
            <translation type="unfinished">
                <numerusform />
            </translation>
        </message>
        <message>
            <source>{frame_ms:.3g} ms on {way}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{lack}; use device cpu, or another precision</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{measure} {share:.0%}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{measure} {value:.2f}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{model} animates the portrait now.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} goes on.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} is back.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} (key {key})</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} (process {pid})</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} (sm_{major}{minor}) is older than what this torch was built for (sm_{known})</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} came with the app and keeps its name: only your own portraits can be renamed</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} came with the app and stays: only your own portraits can be removed</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} cannot be found: no host of that name is known; check the address, or use the number that the app shows</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} cannot be opened: {kind}: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} cannot be opened: {reason}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} cannot be reached ({cause}): see that its app runs, that both are in the same network, and that the address and its port are right</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} cannot be used: {problem}; close programs that may use it, or plug it in again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} changed its picture from {width_px} x {height_px} to {width} x {height}: it is opened anew</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} changed its picture: got {shape}, expected {value}; open it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} could not be closed: {reason}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} could not be finished: {reason}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} does not answer: got nothing within {seconds:g} s; see that its app runs, and that both are in the same network</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} does not answer: {users} attempts to read it hang in its driver; {remedy}, or choose another camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} does not tell the ranges of its activations: write a file that does (`mcnet convert --int8`)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} ended without a frame</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} failed: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} failed: {kind}: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} failed: {reason}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} gave no frame within {seconds:g} s: {remedy}, or choose another camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} gives no frames any more: unplugged, or taken by another program; plug it in again or close the other program</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} gives no video ({cause}): look in its app for the video's address</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} gives no video: got a page or a file; use the address of the video itself, such as {scheme}://{address}{path}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} gives no video: got a stream without pictures; look in its app for the video's address</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} gives pictures of {width} x {height}, expected at least {least_px} pixels per side: choose a larger size in its app</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} has closed the connection: see that its app still runs</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} has ended; plug it in again, or choose another camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} has given no frame for {seconds:g} s; it is opened anew. If that does not help, {remedy}, or choose another camera</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} has given no picture for {seconds:g} s: see that its app is in front, the phone awake, and both in the same network</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} has given the very same picture for {seconds:g} s: it is frozen and is opened anew. If that does not help, plug it in again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} has no video there ({cause}): look in its app for the video's address</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} is a recording, expected a live camera: download it, and give the file</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} is in use by {users}; close that program</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} is there, but is not used: {lack}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} wants another user name or password: give them in the address, as in http://USER:PASSWORD@HOST/video</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} was closed; open it again to read on</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name} was taken out of the gallery.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name}, a camera of another kind</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name}, score {score} of 100</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name}, {cores} cores, {threads} threads</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name}: got no frame any more, expected a video; was the file changed?</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name}: there is no such camera; {advice}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{name}: {text}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{number} from {hop}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{number} more</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{number}%</source>
            <comment>percent</comment>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{p50:.0f} ms in app (p95 {p95:.0f})</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} ({name}) is a virtual camera that no program feeds, expected a webcam; choose another</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} ({name}) is not a capture device, expected a webcam; choose another</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; get it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} cannot be read: {cause}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} has a header that cannot be used: {error}; a newer version may have written it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is a file of torch's, and {lack}: convert it once where torch is (`mcnet convert {name} model.safetensors --int8`), and use that</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is cut short: got {size} bytes, expected {end}; get it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is damaged: its tensors hash to {got}, its header says {content_hash}; get it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is no MCNet checkpoint: got {found}, expected dicts named {parts}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is no safetensors file that can be read ({said}): get it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is no safetensors file: its header is no table</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is no safetensors file: its header lists no tensors</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is no whole safetensors file of float32 or float16 ({error}): it may be truncated; get it again</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is no whole safetensors file: it may be truncated, or something else</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is not a model of ours: got format {found} in its header, expected {format}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is not a model of ours: got format {got} in its header, expected {format}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path} is refused: besides tensors it holds something that could run code when it is read ({wanted}); do not trust where it came from, or have it saved again with tensors only</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path}: {key} is a {dtype} tensor, expected plain floating point</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{path}: {part}.{key} is a {kind}, expected a name and a tensor</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{percent:.0f} %</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{precision} (measured to be the fastest here)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{precision} (which it multiplies best)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{precision} (which it multiplies natively)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{rate_hz:g} per second</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{reason}; {lack}, so that nothing else computes: install it, or mend that</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{request} A second or two is enough (F).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{request} The best frame of a second or two becomes the reference (F).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{score} of 100</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{score} of 100: {remarks}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{sentence} {fix}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{sentence} {fix}: {command}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{size_px} px, {millions:.2g} M parameters</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{tip} Double-click the name, or press Backspace, for {words}.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{tip} Times Expression.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{tip} Times Motion.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{trouble} Recordings go on, and are silent meanwhile.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{value:6.1f}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{way}: {reason}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{what} cannot be used: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a list</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a table of values</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {allowed}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {kind}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{where}: {key} holds NaN or infinite values, expected finite weights; if a training run diverged, use an earlier checkpoint of it</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{where}: {key} is a {kind} tensor, expected plain floating point</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{width_px} x {height_px}, {fps_hz:.0f} fps</source>
            <translation type="unfinished" />
        </message>
        <message>
            <source>{words}.</source>
            <comment>a whole sentence</comment>
            <translation type="unfinished" />
        </message>
        <message>
            <source>“AI avatar” badge</source>
            <translation type="unfinished" />
        </message>
    </context>
</TS>
