<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de" sourcelanguage="en">
    <context>
        <name>mcnet-avatar</name>
        <message>
            <source>(none is bundled)</source>
            <translation>(keines ist enthalten)</translation>
        </message>
        <message>
            <source>1 to 6: 64 px halve six times</source>
            <translation>1 bis 6: 64 px lassen sich sechsmal halbieren</translation>
        </message>
        <message>
            <source>A call hears nothing: {trouble}.</source>
            <translation>Ein Anruf hört nichts: {trouble}.</translation>
        </message>
        <message>
            <source>A call hears you {delay_ms:.0f} ms late, with the picture.</source>
            <translation>Ein Anruf hört Sie {delay_ms:.0f} ms später, im Takt mit dem Bild.</translation>
        </message>
        <message>
            <source>A device that every call program lists. It needs a kernel module, and root once.</source>
            <translation>Ein Gerät, das jedes Anrufprogramm anbietet. Es braucht ein Kernelmodul und einmal Root-Rechte.</translation>
        </message>
        <message>
            <source>A folder for recordings</source>
            <translation>Ein Ordner für Aufnahmen</translation>
        </message>
        <message>
            <source>A folder…</source>
            <translation>Ein Ordner …</translation>
        </message>
        <message>
            <source>A lattice drawn on the portrait, moved as the portrait is</source>
            <translation>Ein Gitter, auf das Porträt gezeichnet und bewegt wie dieses</translation>
        </message>
        <message>
            <source>A model</source>
            <translation>Ein Modell</translation>
        </message>
        <message>
            <source>A model's folder, or that of a run that learns</source>
            <translation>Der Ordner eines Modells oder eines Laufs, der noch lernt</translation>
        </message>
        <message>
            <source>A motion file for the avatar that idles</source>
            <translation>Eine Bewegungsdatei für den ruhenden Avatar</translation>
        </message>
        <message>
            <source>A motion file in the camera's place</source>
            <translation>Eine Bewegungsdatei anstelle der Kamera</translation>
        </message>
        <message>
            <source>A motion file…</source>
            <translation>Eine Bewegungsdatei …</translation>
        </message>
        <message>
            <source>A phone with a camera app, or any camera with an address on your network</source>
            <translation>Ein Telefon mit einer Kamera-App oder jede Kamera mit einer Adresse in Ihrem Netzwerk</translation>
        </message>
        <message>
            <source>A picture as background</source>
            <translation>Ein Bild als Hintergrund</translation>
        </message>
        <message>
            <source>A picture for the slate</source>
            <translation>Ein Bild für das Pausenbild</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows</source>
            <translation>Ein eigenes Bild, das als Pausenbild erscheint</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows; now: {file}</source>
            <translation>Ein eigenes Bild, das als Pausenbild erscheint; zurzeit: {file}</translation>
        </message>
        <message>
            <source>A picture…</source>
            <translation>Ein Bild …</translation>
        </message>
        <message>
            <source>A safe start avoids what may have been the cause: the processor computes, there is no virtual camera, and all settings are the defaults. Your own are kept for the next start.</source>
            <translation>Ein sicherer Start vermeidet, was die Ursache gewesen sein kann: Der Prozessor rechnet, es gibt keine virtuelle Kamera, und alle Einstellungen sind die voreingestellten. Ihre eigenen bleiben für den nächsten Start erhalten.</translation>
        </message>
        <message>
            <source>A video as background</source>
            <translation>Ein Video als Hintergrund</translation>
        </message>
        <message>
            <source>A video in the camera's place</source>
            <translation>Ein Video anstelle der Kamera</translation>
        </message>
        <message>
            <source>A video…</source>
            <translation>Ein Video …</translation>
        </message>
        <message>
            <source>AKD of copying</source>
            <translation>AKD gegenüber Kopieren</translation>
        </message>
        <message>
            <source>Absolute</source>
            <translation>Absolut</translation>
        </message>
        <message>
            <source>Add a picture from a file</source>
            <translation>Ein Bild aus einer Datei hinzufügen</translation>
        </message>
        <message>
            <source>Add a picture from the clipboard</source>
            <translation>Ein Bild aus der Zwischenablage hinzufügen</translation>
        </message>
        <message>
            <source>Add a picture of yours (Ctrl+O), or drop one anywhere</source>
            <translation>Ein eigenes Bild hinzufügen (Strg+O), oder ziehen Sie eines in das Fenster</translation>
        </message>
        <message>
            <source>Add a portrait</source>
            <translation>Porträt hinzufügen</translation>
        </message>
        <message>
            <source>Add neither this picture nor those that wait</source>
            <translation>Weder dieses Bild noch die wartenden hinzufügen</translation>
        </message>
        <message>
            <source>Add the picture in the clipboard (Ctrl+V)</source>
            <translation>Das Bild aus der Zwischenablage hinzufügen (Strg+V)</translation>
        </message>
        <message>
            <source>Add yours…</source>
            <translation>Eigenes …</translation>
        </message>
        <message>
            <source>Add…</source>
            <translation>Hinzufügen …</translation>
        </message>
        <message>
            <source>Adjust the crop</source>
            <translation>Ausschnitt anpassen</translation>
        </message>
        <message>
            <source>Allow it in System Settings &gt; {place}</source>
            <translation>Erlauben Sie es in den Systemeinstellungen &gt; {place}</translation>
        </message>
        <message>
            <source>Always dark</source>
            <translation>Immer dunkel</translation>
        </message>
        <message>
            <source>Always light</source>
            <translation>Immer hell</translation>
        </message>
        <message>
            <source>Another colour</source>
            <translation>Eine andere Farbe</translation>
        </message>
        <message>
            <source>Another file…</source>
            <translation>Andere Datei …</translation>
        </message>
        <message>
            <source>Another name for {preset}:</source>
            <translation>Ein anderer Name für {preset}:</translation>
        </message>
        <message>
            <source>As the desktop</source>
            <translation>Wie der Desktop</translation>
        </message>
        <message>
            <source>As the system</source>
            <translation>Wie das System</translation>
        </message>
        <message>
            <source>Attention</source>
            <translation>Aufmerksamkeit</translation>
        </message>
        <message>
            <source>Automatic</source>
            <translation>Automatisch</translation>
        </message>
        <message>
            <source>Automatic crop</source>
            <translation>Automatischer Ausschnitt</translation>
        </message>
        <message>
            <source>Automatic: {device}</source>
            <translation>Automatisch: {device}</translation>
        </message>
        <message>
            <source>Avatar</source>
            <translation>Avatar</translation>
        </message>
        <message>
            <source>Back to the preview (Escape)</source>
            <translation>Zurück zur Vorschau (Esc)</translation>
        </message>
        <message>
            <source>Background</source>
            <translation>Hintergrund</translation>
        </message>
        <message>
            <source>Background: {name}</source>
            <translation>Hintergrund: {name}</translation>
        </message>
        <message>
            <source>Before and after the memory compensates them, by the same principal components</source>
            <translation>Vor und nach dem Ausgleich durch das Gedächtnis, nach denselben Hauptkomponenten</translation>
        </message>
        <message>
            <source>Begins…</source>
            <translation>Beginnt …</translation>
        </message>
        <message>
            <source>Blinks, and eyes wide open.</source>
            <translation>Blinzeln und weit geöffnete Augen.</translation>
        </message>
        <message>
            <source>Blur</source>
            <translation>Unscharf</translation>
        </message>
        <message>
            <source>Brows</source>
            <translation>Brauen</translation>
        </message>
        <message>
            <source>Browsers and OBS see it once their PipeWire camera is switched on; the apps of Zoom and Teams do not.</source>
            <translation>Browser und OBS sehen sie, sobald ihre PipeWire-Kamera eingeschaltet ist; die Apps von Zoom und Teams nicht.</translation>
        </message>
        <message>
            <source>CALIBRATING</source>
            <translation>KALIBRIERUNG</translation>
        </message>
        <message>
            <source>Calibrate</source>
            <translation>Kalibrieren</translation>
        </message>
        <message>
            <source>Calibrate (F)</source>
            <translation>Kalibrieren (F)</translation>
        </message>
        <message>
            <source>Calibrate hands-free (F)</source>
            <translation>Freihändig kalibrieren (F)</translation>
        </message>
        <message>
            <source>Calibrate hands-free: the best frame of a second or two</source>
            <translation>Freihändig kalibrieren: das beste Bild aus ein bis zwei Sekunden</translation>
        </message>
        <message>
            <source>Calibrate: this very frame is the reference</source>
            <translation>Kalibrieren: genau dieses Bild ist die Referenz</translation>
        </message>
        <message>
            <source>Call this picture of yours something else (F2)</source>
            <translation>Dieses eigene Bild umbenennen (F2)</translation>
        </message>
        <message>
            <source>Call this preset something else</source>
            <translation>Diese Voreinstellung umbenennen</translation>
        </message>
        <message>
            <source>Calms jitter; a slow movement is shown that much later.</source>
            <translation>Beruhigt Zittern; eine langsame Bewegung erscheint um so viel später.</translation>
        </message>
        <message>
            <source>Camera</source>
            <translation>Kamera</translation>
        </message>
        <message>
            <source>Camera {number}</source>
            <translation>Kamera {number}</translation>
        </message>
        <message>
            <source>Can be chosen in the window: {words}.</source>
            <translation>Kann im Fenster gewählt werden: {words}.</translation>
        </message>
        <message>
            <source>Cancel</source>
            <translation>Abbrechen</translation>
        </message>
        <message>
            <source>Cancel all</source>
            <translation>Alle abbrechen</translation>
        </message>
        <message>
            <source>Chain from the camera to the call</source>
            <translation>Kette von der Kamera bis zum Anruf</translation>
        </message>
        <message>
            <source>Change…</source>
            <translation>Ändern …</translation>
        </message>
        <message>
            <source>Choose another picture or video</source>
            <translation>Ein anderes Bild oder Video wählen</translation>
        </message>
        <message>
            <source>Choose two to four views of the network's inside</source>
            <translation>Zwei bis vier Ansichten vom Inneren des Netzes wählen</translation>
        </message>
        <message>
            <source>Choose {camera}</source>
            <translation>Wählen Sie {camera}</translation>
        </message>
        <message>
            <source>Choose “{name}” in your call program. Nobody listens to it yet.</source>
            <translation>Wählen Sie „{name}“ in Ihrem Anrufprogramm. Noch hört niemand zu.</translation>
        </message>
        <message>
            <source>Close</source>
            <translation>Schließen</translation>
        </message>
        <message>
            <source>Close the programs that use it and load the module again</source>
            <translation>Schließen Sie die Programme, die es benutzen, und laden Sie das Modul neu</translation>
        </message>
        <message>
            <source>Close {by}</source>
            <translation>Schließen Sie {by}</translation>
        </message>
        <message>
            <source>Column</source>
            <translation>Spalte</translation>
        </message>
        <message>
            <source>Command</source>
            <translation>Befehl</translation>
        </message>
        <message>
            <source>Computer</source>
            <translation>Computer</translation>
        </message>
        <message>
            <source>Content Credentials</source>
            <translation>Inhaltsnachweise</translation>
        </message>
        <message>
            <source>Control from outside</source>
            <translation>Steuerung von außen</translation>
        </message>
        <message>
            <source>Controls</source>
            <translation>Regler</translation>
        </message>
        <message>
            <source>Copy</source>
            <translation>Kopieren</translation>
        </message>
        <message>
            <source>Copy the token</source>
            <translation>Token kopieren</translation>
        </message>
        <message>
            <source>Copy this command</source>
            <translation>Diesen Befehl kopieren</translation>
        </message>
        <message>
            <source>Crop by the face that was found</source>
            <translation>Nach dem gefundenen Gesicht zuschneiden</translation>
        </message>
        <message>
            <source>Crop of the portrait</source>
            <translation>Ausschnitt des Porträts</translation>
        </message>
        <message>
            <source>Crop of {name}</source>
            <translation>Ausschnitt von {name}</translation>
        </message>
        <message>
            <source>Crop of {name} ({number} of {of})</source>
            <translation>Ausschnitt von {name} ({number} von {of})</translation>
        </message>
        <message>
            <source>Ctrl</source>
            <translation>Strg</translation>
        </message>
        <message>
            <source>Cut the person out</source>
            <translation>Person freistellen</translation>
        </message>
        <message>
            <source>DROP</source>
            <translation>ABLEGEN</translation>
        </message>
        <message>
            <source>Dark</source>
            <translation>Dunkel</translation>
        </message>
        <message>
            <source>Delete</source>
            <translation>Löschen</translation>
        </message>
        <message>
            <source>Delete preset</source>
            <translation>Voreinstellung löschen</translation>
        </message>
        <message>
            <source>Delete this preset; the portraits keep their strengths</source>
            <translation>Diese Voreinstellung löschen; die Porträts behalten ihre Stärken</translation>
        </message>
        <message>
            <source>Device</source>
            <translation>Gerät</translation>
        </message>
        <message>
            <source>Dismiss</source>
            <translation>Verwerfen</translation>
        </message>
        <message>
            <source>Do what the message proposes</source>
            <translation>Tun, was die Meldung vorschlägt</translation>
        </message>
        <message>
            <source>Drag the square, or its corners. Keys: arrows move, plus and minus resize, Page Up and Down turn, comma and full stop straighten.</source>
            <translation>Ziehen Sie das Quadrat oder seine Ecken. Tasten: Pfeile verschieben, Plus und Minus ändern die Größe, Bild auf und Bild ab drehen, Komma und Punkt richten gerade.</translation>
        </message>
        <message>
            <source>Draw on your picture what was found in it (O).</source>
            <translation>Zeichnet in Ihr Bild, was darin gefunden wurde (O).</translation>
        </message>
        <message>
            <source>Draw skin, teeth, lids</source>
            <translation>Haut, Zähne und Lider zeichnen</translation>
        </message>
        <message>
            <source>Draws what the network cannot show of this portrait: its skin where it moves, the inside of a mouth that its picture keeps shut, and lids that close. For motion in space; nothing of your own picture goes into it.</source>
            <translation>Zeichnet, was das Netz von diesem Porträt nicht zeigen kann: seine Haut, wo sie sich bewegt, das Innere eines Mundes, der auf dem Bild geschlossen ist, und Lider, die sich schließen. Für Bewegung im Raum; von Ihrem eigenen Bild geht nichts ein.</translation>
        </message>
        <message>
            <source>Drop a picture to add a portrait, or a video or motion file to stand in for the camera.</source>
            <translation>Legen Sie ein Bild ab, um ein Porträt hinzuzufügen, oder ein Video oder eine Bewegungsdatei, die die Kamera ersetzen.</translation>
        </message>
        <message>
            <source>Each part of motion and expression for itself, in space only.</source>
            <translation>Jeder Teil von Bewegung und Mimik für sich, nur im Raum.</translation>
        </message>
        <message>
            <source>Enable RPM Fusion's free repository (rpmfusion.org tells how), then install it</source>
            <translation>Aktivieren Sie die freie Paketquelle von RPM Fusion (rpmfusion.org sagt, wie), und installieren Sie es dann</translation>
        </message>
        <message>
            <source>Enter keeps the name, Escape the one before.</source>
            <translation>Die Eingabetaste übernimmt den Namen, Esc behält den bisherigen.</translation>
        </message>
        <message>
            <source>Everything is ready.</source>
            <translation>Alles ist bereit.</translation>
        </message>
        <message>
            <source>Expression</source>
            <translation>Mimik</translation>
        </message>
        <message>
            <source>FAULT</source>
            <translation>FEHLER</translation>
        </message>
        <message>
            <source>Features</source>
            <translation>Merkmale</translation>
        </message>
        <message>
            <source>Figures</source>
            <translation>Messwerte</translation>
        </message>
        <message>
            <source>Figures: not measured</source>
            <translation>Messwerte: nicht gemessen</translation>
        </message>
        <message>
            <source>Figures: {figures}</source>
            <translation>Messwerte: {figures}</translation>
        </message>
        <message numerus="yes">
            <source>Figures: {figures} ({n} clips that it never saw)</source>
            <translation>
                <numerusform>Messwerte: {figures} ({n} Clip, den es nie gesehen hat)</numerusform>
                <numerusform>Messwerte: {figures} ({n} Clips, die es nie gesehen hat)</numerusform>
            </translation>
        </message>
        <message>
            <source>Find the fastest way to run the model on this computer (a few seconds), and remember it</source>
            <translation>Findet heraus, wie das Modell auf diesem Computer am schnellsten läuft (einige Sekunden), und merkt es sich</translation>
        </message>
        <message>
            <source>Fine detail</source>
            <translation>Feine Details</translation>
        </message>
        <message>
            <source>Fine-tune</source>
            <translation>Feinabstimmung</translation>
        </message>
        <message>
            <source>First steps</source>
            <translation>Erste Schritte</translation>
        </message>
        <message>
            <source>Flip what the call sees (T).</source>
            <translation>Spiegelt, was der Anruf sieht (T).</translation>
        </message>
        <message>
            <source>Folder of recordings</source>
            <translation>Ordner der Aufnahmen</translation>
        </message>
        <message>
            <source>Framing</source>
            <translation>Bildausschnitt</translation>
        </message>
        <message>
            <source>Gaze</source>
            <translation>Blick</translation>
        </message>
        <message>
            <source>Generated</source>
            <translation>Erzeugt</translation>
        </message>
        <message>
            <source>Give the output to call programs as a camera. It starts with the slate; then go live.</source>
            <translation>Gibt die Ausgabe als Kamera an Anrufprogramme. Es beginnt mit dem Pausenbild; gehen Sie dann live.</translation>
        </message>
        <message>
            <source>Go live</source>
            <translation>Live gehen</translation>
        </message>
        <message>
            <source>Go live, or stop</source>
            <translation>Live gehen oder anhalten</translation>
        </message>
        <message>
            <source>HOLD</source>
            <translation>STANDBILD</translation>
        </message>
        <message>
            <source>Hands-free</source>
            <translation>Freihändig</translation>
        </message>
        <message>
            <source>Have it at every start of the system</source>
            <translation>Bei jedem Systemstart bereitstellen</translation>
        </message>
        <message>
            <source>Heard: {name}</source>
            <translation>Zu hören: {name}</translation>
        </message>
        <message>
            <source>Hide</source>
            <translation>Ausblenden</translation>
        </message>
        <message>
            <source>How far the background is out of focus.</source>
            <translation>Wie unscharf der Hintergrund ist.</translation>
        </message>
        <message>
            <source>How far the enlarged portrait is sharpened.</source>
            <translation>Wie stark das vergrößerte Porträt geschärft wird.</translation>
        </message>
        <message>
            <source>How far the head moves.</source>
            <translation>Wie weit sich der Kopf bewegt.</translation>
        </message>
        <message>
            <source>How large the portrait stands in the picture (the mouse wheel over the preview).</source>
            <translation>Wie groß das Porträt im Bild steht (das Mausrad über der Vorschau).</translation>
        </message>
        <message>
            <source>How long a process of its own was busy with computing one frame once more</source>
            <translation>Wie lange ein eigener Prozess damit beschäftigt war, ein Bild noch einmal zu berechnen</translation>
        </message>
        <message>
            <source>How much of the crop your face fills (W and S).</source>
            <translation>Wie viel vom Ausschnitt Ihr Gesicht füllt (W und S).</translation>
        </message>
        <message>
            <source>How often calls and recordings get a picture.</source>
            <translation>Wie oft Anrufe und Aufnahmen ein Bild bekommen.</translation>
        </message>
        <message>
            <source>How strongly mouth, eyes and brows move.</source>
            <translation>Wie stark sich Mund, Augen und Brauen bewegen.</translation>
        </message>
        <message>
            <source>I may use this picture</source>
            <translation>Ich darf dieses Bild verwenden</translation>
        </message>
        <message>
            <source>IDLE</source>
            <translation>RUHE</translation>
        </message>
        <message>
            <source>If there is none, the device keeps an old format: free it</source>
            <translation>Falls es keines gibt, behält das Gerät ein altes Format: Geben Sie es frei</translation>
        </message>
        <message>
            <source>In a call</source>
            <translation>Im Anruf</translation>
        </message>
        <message>
            <source>In space</source>
            <translation>Im Raum</translation>
        </message>
        <message>
            <source>In the plane</source>
            <translation>In der Ebene</translation>
        </message>
        <message>
            <source>In this window 0 shows the slate; a key chosen here does so from every other one, too.</source>
            <translation>In diesem Fenster zeigt 0 das Pausenbild; eine hier gewählte Taste tut es auch aus jedem anderen.</translation>
        </message>
        <message>
            <source>Inside the network</source>
            <translation>Im Inneren des Netzes</translation>
        </message>
        <message>
            <source>Install OBS Studio 30 or newer from {address}</source>
            <translation>Installieren Sie OBS Studio 30 oder neuer von {address}</translation>
        </message>
        <message>
            <source>Install OBS Studio from {address} (it need not run), then restart your call program</source>
            <translation>Installieren Sie OBS Studio von {address} (es muss nicht laufen), und starten Sie Ihr Anrufprogramm neu</translation>
        </message>
        <message>
            <source>Install it</source>
            <translation>Installieren Sie es</translation>
        </message>
        <message>
            <source>Install it (for another kernel than linux, its own headers: linux-lts-headers, say)</source>
            <translation>Installieren Sie es (für einen anderen Kernel als linux mit dessen Headern, etwa linux-lts-headers)</translation>
        </message>
        <message>
            <source>Install your distribution's package v4l2loopback (or v4l2loopback-dkms)</source>
            <translation>Installieren Sie das Paket v4l2loopback (oder v4l2loopback-dkms) Ihrer Distribution</translation>
        </message>
        <message>
            <source>Install your distribution's packages pipewire and wireplumber</source>
            <translation>Installieren Sie die Pakete pipewire und wireplumber Ihrer Distribution</translation>
        </message>
        <message>
            <source>It has no card with figures: nobody has told how good it is (mcnet-train evaluate measures it).</source>
            <translation>Es hat keine Karte mit Messwerten: Niemand hat gesagt, wie gut es ist (mcnet-train evaluate misst es).</translation>
        </message>
        <message>
            <source>It is a pickled checkpoint without a card: it is read without running code, but nobody tells how good it is or under which licence it may be used.</source>
            <translation>Es ist ein Pickle-Checkpoint ohne Karte: Er wird gelesen, ohne Code auszuführen, aber niemand sagt, wie gut er ist und unter welcher Lizenz er verwendet werden darf.</translation>
        </message>
        <message>
            <source>It is being switched on…</source>
            <translation>Wird eingeschaltet …</translation>
        </message>
        <message>
            <source>It is off: {why}.</source>
            <translation>Ist aus: {why}.</translation>
        </message>
        <message>
            <source>It is worse than showing the portrait as it is: its pictures are off by {copied:.0%} of what that would be.</source>
            <translation>Es ist schlechter, als das Porträt unverändert zu zeigen: Seine Bilder liegen um {copied:.0%} dessen daneben.</translation>
        </message>
        <message>
            <source>It shows me, or the person in it agrees, or nobody real is in it.</source>
            <translation>Es zeigt mich, die Person darauf ist einverstanden, oder es zeigt niemanden, den es gibt.</translation>
        </message>
        <message>
            <source>Its card is being read…</source>
            <translation>Die Karte wird gelesen …</translation>
        </message>
        <message>
            <source>Join the group of video devices, then log out and in again</source>
            <translation>Treten Sie der Gruppe der Videogeräte bei, und melden Sie sich dann ab und wieder an</translation>
        </message>
        <message>
            <source>Keep these strengths under a name</source>
            <translation>Diese Stärken unter einem Namen behalten</translation>
        </message>
        <message>
            <source>Keep this crop and animate it</source>
            <translation>Diesen Ausschnitt behalten und animieren</translation>
        </message>
        <message>
            <source>Key for the slate, from every window</source>
            <translation>Taste für das Pausenbild, aus jedem Fenster</translation>
        </message>
        <message>
            <source>Keys</source>
            <translation>Tasten</translation>
        </message>
        <message>
            <source>Kind of virtual camera</source>
            <translation>Art der virtuellen Kamera</translation>
        </message>
        <message>
            <source>L1 of copying</source>
            <translation>L1 gegenüber Kopieren</translation>
        </message>
        <message>
            <source>L1 of copying, of what it learns from</source>
            <translation>L1 gegenüber Kopieren, an den Lerndaten</translation>
        </message>
        <message>
            <source>LIVE</source>
            <translation>LIVE</translation>
        </message>
        <message>
            <source>Landmarks and keypoints</source>
            <translation>Gesichts- und Schlüsselpunkte</translation>
        </message>
        <message>
            <source>Language</source>
            <translation>Sprache</translation>
        </message>
        <message>
            <source>Lattice</source>
            <translation>Gitter</translation>
        </message>
        <message>
            <source>Leave everything as it was (Escape)</source>
            <translation>Alles lassen, wie es war (Esc)</translation>
        </message>
        <message>
            <source>Leave the slate up; the call keeps its picture (G)</source>
            <translation>Das Pausenbild stehen lassen; der Anruf behält sein Bild (G)</translation>
        </message>
        <message>
            <source>Let a Stream Deck, OBS or scripts reach slate, portraits and recordings; on this computer alone.</source>
            <translation>Lässt ein Stream Deck, OBS oder Skripte Pausenbild, Porträts und Aufnahmen steuern; nur auf diesem Computer.</translation>
        </message>
        <message>
            <source>Let call programs see the output; it starts with the slate</source>
            <translation>Anrufprogramme sehen die Ausgabe; sie beginnt mit dem Pausenbild</translation>
        </message>
        <message>
            <source>Level</source>
            <translation>Pegel</translation>
        </message>
        <message>
            <source>Level of the microphone</source>
            <translation>Pegel des Mikrofons</translation>
        </message>
        <message>
            <source>Licence: {licence}</source>
            <translation>Lizenz: {licence}</translation>
        </message>
        <message>
            <source>Lids</source>
            <translation>Lider</translation>
        </message>
        <message>
            <source>Lift slate</source>
            <translation>Bild freigeben</translation>
        </message>
        <message>
            <source>Light</source>
            <translation>Hell</translation>
        </message>
        <message>
            <source>Lips, jaw and chin.</source>
            <translation>Lippen, Kiefer und Kinn.</translation>
        </message>
        <message>
            <source>List all keys (?)</source>
            <translation>Alle Tasten auflisten (?)</translation>
        </message>
        <message>
            <source>Load the module</source>
            <translation>Laden Sie das Modul</translation>
        </message>
        <message>
            <source>Look again for a virtual camera</source>
            <translation>Noch einmal nach einer virtuellen Kamera suchen</translation>
        </message>
        <message>
            <source>Look again for cameras</source>
            <translation>Noch einmal nach Kameras suchen</translation>
        </message>
        <message>
            <source>Look again for microphones</source>
            <translation>Noch einmal nach Mikrofonen suchen</translation>
        </message>
        <message>
            <source>Look as the portrait does: the head turned alike, mouth and eyes as far open.</source>
            <translation>Schauen Sie wie das Porträt: den Kopf ebenso gedreht, Mund und Augen ebenso weit geöffnet.</translation>
        </message>
        <message>
            <source>Look as you do at rest: mouth closed, eyes open; any direction will do.</source>
            <translation>Schauen Sie wie in Ruhe: Mund geschlossen, Augen offen; die Richtung ist gleich.</translation>
        </message>
        <message>
            <source>Looking for cameras…</source>
            <translation>Kameras werden gesucht …</translation>
        </message>
        <message>
            <source>Looking for one…</source>
            <translation>Wird gesucht …</translation>
        </message>
        <message>
            <source>MEASURING</source>
            <translation>MESSUNG</translation>
        </message>
        <message>
            <source>Make another token; the old one is of no use then</source>
            <translation>Ein neues Token erzeugen; das alte gilt dann nicht mehr</translation>
        </message>
        <message>
            <source>Masks</source>
            <translation>Masken</translation>
        </message>
        <message>
            <source>Measure</source>
            <translation>Messen</translation>
        </message>
        <message>
            <source>Measured: {words}.</source>
            <translation>Gemessen: {words}.</translation>
        </message>
        <message>
            <source>Microphone</source>
            <translation>Mikrofon</translation>
        </message>
        <message>
            <source>Microphone for calls, in step</source>
            <translation>Mikrofon für Anrufe, im Takt</translation>
        </message>
        <message>
            <source>Mirror the output</source>
            <translation>Ausgabe spiegeln</translation>
        </message>
        <message>
            <source>Mirror the preview</source>
            <translation>Vorschau spiegeln</translation>
        </message>
        <message>
            <source>Mirror what the call sees</source>
            <translation>Spiegeln, was der Anruf sieht</translation>
        </message>
        <message>
            <source>Missing: {link}</source>
            <translation>Es fehlt: {link}</translation>
        </message>
        <message>
            <source>Model</source>
            <translation>Modell</translation>
        </message>
        <message>
            <source>Models (*.safetensors *.pth *.tar);;All files (*)</source>
            <translation>Modelle (*.safetensors *.pth *.tar);;Alle Dateien (*)</translation>
        </message>
        <message>
            <source>Motion</source>
            <translation>Bewegung</translation>
        </message>
        <message>
            <source>Motion files (*.safetensors);;All files (*)</source>
            <translation>Bewegungsdateien (*.safetensors);;Alle Dateien (*)</translation>
        </message>
        <message>
            <source>Motion file…</source>
            <translation>Bewegungsdatei …</translation>
        </message>
        <message>
            <source>Mouth</source>
            <translation>Mund</translation>
        </message>
        <message>
            <source>Move the crop down (J)</source>
            <translation>Den Ausschnitt nach unten verschieben (J)</translation>
        </message>
        <message>
            <source>Move the crop to the left (H)</source>
            <translation>Den Ausschnitt nach links verschieben (H)</translation>
        </message>
        <message>
            <source>Move the crop to the right (K)</source>
            <translation>Den Ausschnitt nach rechts verschieben (K)</translation>
        </message>
        <message>
            <source>Move the crop up (U)</source>
            <translation>Den Ausschnitt nach oben verschieben (U)</translation>
        </message>
        <message>
            <source>Moves gently</source>
            <translation>Bewegt sich leicht</translation>
        </message>
        <message>
            <source>NO CAMERA</source>
            <translation>KEINE KAMERA</translation>
        </message>
        <message>
            <source>NO FACE</source>
            <translation>KEIN GESICHT</translation>
        </message>
        <message>
            <source>Name of the portrait</source>
            <translation>Name des Porträts</translation>
        </message>
        <message>
            <source>Name of these strengths:</source>
            <translation>Name dieser Stärken:</translation>
        </message>
        <message>
            <source>Nearness</source>
            <translation>Nähe</translation>
        </message>
        <message>
            <source>Network camera</source>
            <translation>Netzwerkkamera</translation>
        </message>
        <message>
            <source>Network camera…</source>
            <translation>Netzwerkkamera …</translation>
        </message>
        <message>
            <source>New recordings have your voice, in step with the picture. Switched off, the microphone is closed.</source>
            <translation>Neue Aufnahmen haben Ihre Stimme, im Takt mit dem Bild. Ausgeschaltet ist das Mikrofon geschlossen.</translation>
        </message>
        <message>
            <source>New token</source>
            <translation>Neues Token</translation>
        </message>
        <message>
            <source>Next portrait</source>
            <translation>Nächstes Porträt</translation>
        </message>
        <message>
            <source>Next step</source>
            <translation>Nächster Schritt</translation>
        </message>
        <message>
            <source>No camera</source>
            <translation>Keine Kamera</translation>
        </message>
        <message>
            <source>No camera was found. Plug one in and refresh, or let a video file stand in for it.</source>
            <translation>Es wurde keine Kamera gefunden. Schließen Sie eine an und suchen Sie erneut, oder lassen Sie eine Videodatei an ihre Stelle treten.</translation>
        </message>
        <message>
            <source>No card: nobody tells what it learned from, or how good it is</source>
            <translation>Keine Karte: Niemand sagt, woraus es gelernt hat oder wie gut es ist</translation>
        </message>
        <message>
            <source>No kernel module and no root, also with Secure Boot. Firefox, Chromium and OBS can list it.</source>
            <translation>Kein Kernelmodul und keine Root-Rechte, auch mit Secure Boot. Firefox, Chromium und OBS können sie anbieten.</translation>
        </message>
        <message>
            <source>No picture goes out any more.</source>
            <translation>Es geht kein Bild mehr hinaus.</translation>
        </message>
        <message>
            <source>Nod</source>
            <translation>Nicken</translation>
        </message>
        <message>
            <source>None: transparent</source>
            <translation>Keiner: durchsichtig</translation>
        </message>
        <message>
            <source>Not all of the list of portraits could be read: {said}. A portrait may have lost its name or its crop; {kept}.</source>
            <translation>Nicht alles in der Liste der Porträts konnte gelesen werden: {said}. Ein Porträt hat vielleicht seinen Namen oder seinen Ausschnitt verloren; {kept}.</translation>
        </message>
        <message>
            <source>Not all presets could be used: {said}. All others are there; {kept}.</source>
            <translation>Nicht alle Voreinstellungen konnten übernommen werden: {said}. Alle anderen sind da; {kept}.</translation>
        </message>
        <message>
            <source>Not all settings could be used: {said}. All others are in force; {kept}.</source>
            <translation>Nicht alle Einstellungen konnten übernommen werden: {said}. Alle anderen gelten; {kept}.</translation>
        </message>
        <message>
            <source>Not in space: {reason}.</source>
            <translation>Nicht im Raum: {reason}.</translation>
        </message>
        <message>
            <source>Not possible here while another window has the focus: {words}.</source>
            <translation>Hier nicht möglich, solange ein anderes Fenster den Fokus hat: {words}.</translation>
        </message>
        <message>
            <source>Not yet: {missing}</source>
            <translation>Noch nicht: {missing}</translation>
        </message>
        <message>
            <source>Nothing is heard: {trouble}.</source>
            <translation>Es ist nichts zu hören: {trouble}.</translation>
        </message>
        <message>
            <source>Nothing says under which licence it may be used.</source>
            <translation>Nirgends steht, unter welcher Lizenz es verwendet werden darf.</translation>
        </message>
        <message>
            <source>Nothing to improve.</source>
            <translation>Nichts zu verbessern.</translation>
        </message>
        <message>
            <source>Nudge</source>
            <translation>Rücken</translation>
        </message>
        <message>
            <source>Nudge it down</source>
            <translation>Nach unten rücken</translation>
        </message>
        <message>
            <source>Nudge it left</source>
            <translation>Nach links rücken</translation>
        </message>
        <message>
            <source>Nudge it right</source>
            <translation>Nach rechts rücken</translation>
        </message>
        <message>
            <source>Nudge the crop up</source>
            <translation>Den Ausschnitt nach oben rücken</translation>
        </message>
        <message>
            <source>Occlusion</source>
            <translation>Verdeckung</translation>
        </message>
        <message>
            <source>Of the picture that calls and recordings get, in pixels.</source>
            <translation>Des Bildes, das Anrufe und Aufnahmen bekommen, in Pixeln.</translation>
        </message>
        <message>
            <source>Of the window's texts. A change takes effect at the app's next start.</source>
            <translation>Der Texte des Fensters. Eine Änderung gilt ab dem nächsten Start der App.</translation>
        </message>
        <message>
            <source>Offer call programs the microphone as late as the picture is, so that lips and voice agree. It is heard only while a program listens, and silent while you show the slate.</source>
            <translation>Bietet Anrufprogrammen das Mikrofon so viel später an, wie das Bild kommt, sodass Lippen und Stimme zusammenpassen. Es wird nur gehört, solange ein Programm zuhört, und schweigt, solange Sie das Pausenbild zeigen.</translation>
        </message>
        <message>
            <source>On: {device}. Choose it in your call program.</source>
            <translation>An: {device}. Wählen Sie sie in Ihrem Anrufprogramm aus.</translation>
        </message>
        <message>
            <source>One colour</source>
            <translation>Eine Farbe</translation>
        </message>
        <message>
            <source>One moment: it is being read…</source>
            <translation>Einen Moment: Es wird gelesen …</translation>
        </message>
        <message>
            <source>Open</source>
            <translation>Öffnen</translation>
        </message>
        <message>
            <source>Open OBS, press Start Virtual Camera once, allow the extension, press Stop, and restart this app</source>
            <translation>Öffnen Sie OBS, drücken Sie einmal auf „Virtuelle Kamera starten“, erlauben Sie die Erweiterung, halten Sie sie wieder an, und starten Sie diese App neu</translation>
        </message>
        <message>
            <source>Open folder</source>
            <translation>Ordner öffnen</translation>
        </message>
        <message>
            <source>Open what is written about this model</source>
            <translation>Öffnen, was über dieses Modell geschrieben steht</translation>
        </message>
        <message>
            <source>OpenCV does not load: {error}; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</source>
            <translation>OpenCV lädt nicht: {error}; unter Debian oder Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</translation>
        </message>
        <message>
            <source>OpenVINO alone knows it, and backend {backend} was chosen; use backend auto, or bf16 or fp32</source>
            <translation>nur OpenVINO beherrscht es, und das Backend {backend} wurde gewählt; verwenden Sie das Backend auto oder bf16 oder fp32</translation>
        </message>
        <message>
            <source>OpenVINO computes on CPUs and Intel GPUs only, and {device} was chosen</source>
            <translation>OpenVINO rechnet nur auf Prozessoren und Intel-GPUs, und {device} wurde gewählt</translation>
        </message>
        <message>
            <source>OpenVINO finds no Intel GPU: there is none, or its driver for computing (OpenCL) is missing</source>
            <translation>OpenVINO findet keine Intel-GPU: Es gibt keine, oder ihr Treiber zum Rechnen (OpenCL) fehlt</translation>
        </message>
        <message>
            <source>OpenVINO knows no GPU on macOS (device mps is Apple's)</source>
            <translation>OpenVINO kennt unter macOS keine GPU (das Gerät mps ist die von Apple)</translation>
        </message>
        <message>
            <source>OpenVINO was measured on x86-64 CPUs only, and this is {machine}</source>
            <translation>OpenVINO wurde nur auf x86-64-Prozessoren gemessen, und dies ist {machine}</translation>
        </message>
        <message>
            <source>Opening…</source>
            <translation>Wird geöffnet …</translation>
        </message>
        <message>
            <source>Other programs</source>
            <translation>Andere Programme</translation>
        </message>
        <message>
            <source>Output and computer</source>
            <translation>Ausgabe und Computer</translation>
        </message>
        <message>
            <source>Output preview</source>
            <translation>Vorschau der Ausgabe</translation>
        </message>
        <message>
            <source>Output rate</source>
            <translation>Rate der Ausgabe</translation>
        </message>
        <message>
            <source>Output size</source>
            <translation>Größe der Ausgabe</translation>
        </message>
        <message>
            <source>Overlay</source>
            <translation>Überlagerung</translation>
        </message>
        <message>
            <source>PREVIEW</source>
            <translation>VORSCHAU</translation>
        </message>
        <message>
            <source>Panic key</source>
            <translation>Nottaste</translation>
        </message>
        <message>
            <source>Parts of expression</source>
            <translation>Teile der Mimik</translation>
        </message>
        <message>
            <source>Parts of motion</source>
            <translation>Teile der Bewegung</translation>
        </message>
        <message>
            <source>Paste a picture</source>
            <translation>Bild einfügen</translation>
        </message>
        <message>
            <source>Pause the preview</source>
            <translation>Vorschau anhalten</translation>
        </message>
        <message>
            <source>Pick one on the left, or add a picture of yours</source>
            <translation>Wählen Sie links eines, oder fügen Sie ein eigenes Bild hinzu</translation>
        </message>
        <message>
            <source>Picture</source>
            <translation>Bild</translation>
        </message>
        <message>
            <source>Pictures ({endings});;All files (*)</source>
            <translation>Bilder ({endings});;Alle Dateien (*)</translation>
        </message>
        <message>
            <source>PipeWire camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>PipeWire-Kamera {detail}: Das Bild ist {shape}, erwartet wird {expected}</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds:g} s</source>
            <translation>PipeWire hat innerhalb von {seconds:g} s nicht geantwortet</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds} s</source>
            <translation>PipeWire hat innerhalb von {seconds} s nicht geantwortet</translation>
        </message>
        <message>
            <source>PipeWire does not run: {error}</source>
            <translation>PipeWire läuft nicht: {error}</translation>
        </message>
        <message>
            <source>PipeWire has ended</source>
            <translation>PipeWire hat geendet</translation>
        </message>
        <message>
            <source>PipeWire has failed: {said}</source>
            <translation>PipeWire ist ausgefallen: {said}</translation>
        </message>
        <message>
            <source>PipeWire has refused the camera: {error}</source>
            <translation>PipeWire hat die Kamera abgelehnt: {error}</translation>
        </message>
        <message>
            <source>PipeWire has refused the microphone: {error}</source>
            <translation>PipeWire hat das Mikrofon abgelehnt: {error}</translation>
        </message>
        <message>
            <source>PipeWire has refused to hear the microphone: {error}</source>
            <translation>PipeWire hat abgelehnt, das Mikrofon abzuhören: {error}</translation>
        </message>
        <message>
            <source>PipeWire is installed, but does not run: nothing listens at {socket}.</source>
            <translation>PipeWire ist installiert, läuft aber nicht: Unter {socket} antwortet nichts.</translation>
        </message>
        <message>
            <source>PipeWire is not installed.</source>
            <translation>PipeWire ist nicht installiert.</translation>
        </message>
        <message>
            <source>PipeWire makes no node (error {number})</source>
            <translation>PipeWire legt keinen Knoten an (Fehler {number})</translation>
        </message>
        <message>
            <source>PipeWire runs, but cannot be used: {error}.</source>
            <translation>PipeWire läuft, kann aber nicht verwendet werden: {error}.</translation>
        </message>
        <message>
            <source>PipeWire runs, but you may not use it ({socket}).</source>
            <translation>PipeWire läuft, aber Sie dürfen es nicht verwenden ({socket}).</translation>
        </message>
        <message>
            <source>PipeWire {version} runs, but without a session manager: no program would reach the camera.</source>
            <translation>PipeWire {version} läuft, aber ohne Sitzungsverwaltung: Kein Programm würde die Kamera erreichen.</translation>
        </message>
        <message>
            <source>PipeWire {version} with {manager} can have the camera {name}, without a kernel module.</source>
            <translation>PipeWire {version} mit {manager} kann die Kamera {name} bereitstellen, ohne Kernelmodul.</translation>
        </message>
        <message>
            <source>PipeWire's daemon cannot be reached; start it: systemctl --user start pipewire</source>
            <translation>der Dienst von PipeWire ist nicht zu erreichen; starten Sie ihn: systemctl --user start pipewire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be loaded ({error}); install PipeWire</source>
            <translation>die Bibliothek von PipeWire kann nicht geladen werden ({error}); installieren Sie PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its settings or plug-ins are missing; install PipeWire</source>
            <translation>die Bibliothek von PipeWire kann nicht verwendet werden: Ihre Einstellungen oder Erweiterungen fehlen; installieren Sie PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its thread does not start</source>
            <translation>die Bibliothek von PipeWire kann nicht verwendet werden: Ihr Thread startet nicht</translation>
        </message>
        <message>
            <source>PipeWire's library is too old: it lacks {name}; update PipeWire</source>
            <translation>die Bibliothek von PipeWire ist zu alt: Ihr fehlt {name}; aktualisieren Sie PipeWire</translation>
        </message>
        <message>
            <source>Play motion that was recorded before, in a loop, instead of a camera</source>
            <translation>Zuvor aufgenommene Bewegung in einer Schleife anstelle einer Kamera abspielen</translation>
        </message>
        <message>
            <source>Port</source>
            <translation>Port</translation>
        </message>
        <message>
            <source>Port of control from outside</source>
            <translation>Port der Steuerung von außen</translation>
        </message>
        <message>
            <source>Portrait</source>
            <translation>Porträt</translation>
        </message>
        <message>
            <source>Portrait over your picture: fainter</source>
            <translation>Porträt über Ihrem Bild: schwächer</translation>
        </message>
        <message>
            <source>Portrait over your picture: stronger</source>
            <translation>Porträt über Ihrem Bild: stärker</translation>
        </message>
        <message>
            <source>Portrait size</source>
            <translation>Porträtgröße</translation>
        </message>
        <message>
            <source>Portraits</source>
            <translation>Porträts</translation>
        </message>
        <message>
            <source>Pose</source>
            <translation>Pose</translation>
        </message>
        <message>
            <source>Preset</source>
            <translation>Voreinstellung</translation>
        </message>
        <message>
            <source>Previous portrait</source>
            <translation>Voriges Porträt</translation>
        </message>
        <message>
            <source>Processor</source>
            <translation>Prozessor</translation>
        </message>
        <message>
            <source>Programs that show the token can control this window on port {port}.</source>
            <translation>Programme, die das Token vorweisen, können dieses Fenster über Port {port} steuern.</translation>
        </message>
        <message>
            <source>Put recordings and snapshots elsewhere</source>
            <translation>Aufnahmen und Schnappschüsse anderswo ablegen</translation>
        </message>
        <message>
            <source>Put the crop back where the face is</source>
            <translation>Den Ausschnitt zum Gesicht zurücksetzen</translation>
        </message>
        <message>
            <source>Put the first steps away; they come back under Window</source>
            <translation>Die ersten Schritte ausblenden; unter „Fenster“ kommen sie zurück</translation>
        </message>
        <message>
            <source>Put the portrait back in the middle, in its usual size (a double click on the preview)</source>
            <translation>Das Porträt zurück in die Mitte und auf die übliche Größe setzen (Doppelklick auf die Vorschau)</translation>
        </message>
        <message>
            <source>Put this message away</source>
            <translation>Diese Meldung ausblenden</translation>
        </message>
        <message>
            <source>Qt's part for sound cannot be loaded ({error}); {remedy}</source>
            <translation>Der Teil von Qt für Ton kann nicht geladen werden ({error}); {remedy}</translation>
        </message>
        <message>
            <source>Quit</source>
            <translation>Beenden</translation>
        </message>
        <message>
            <source>Rate</source>
            <translation>Rate</translation>
        </message>
        <message>
            <source>Read its card</source>
            <translation>Karte lesen</translation>
        </message>
        <message>
            <source>Recheck</source>
            <translation>Erneut prüfen</translation>
        </message>
        <message>
            <source>Record</source>
            <translation>Aufnehmen</translation>
        </message>
        <message>
            <source>Record my microphone</source>
            <translation>Mein Mikrofon aufnehmen</translation>
        </message>
        <message>
            <source>Record my motion</source>
            <translation>Meine Bewegung aufnehmen</translation>
        </message>
        <message>
            <source>Record the output (V)</source>
            <translation>Die Ausgabe aufnehmen (V)</translation>
        </message>
        <message>
            <source>Record your motion, without pictures, to play it on any portrait later</source>
            <translation>Nimmt Ihre Bewegung ohne Bilder auf, um sie später auf jedem Porträt abzuspielen</translation>
        </message>
        <message>
            <source>Record, or capture the window with your call program</source>
            <translation>Nehmen Sie auf, oder geben Sie das Fenster in Ihrem Anrufprogramm frei</translation>
        </message>
        <message>
            <source>Recordings</source>
            <translation>Aufnahmen</translation>
        </message>
        <message>
            <source>Recordings (WebM) and snapshots are transparent; the call sees this colour:</source>
            <translation>Aufnahmen (WebM) und Schnappschüsse sind durchsichtig; der Anruf sieht diese Farbe:</translation>
        </message>
        <message>
            <source>Recordings and snapshots say, in a signed and standard way (C2PA), that AI generated them, and with which model; nothing of you. Others can read it, and can remove it.</source>
            <translation>Aufnahmen und Schnappschüsse sagen signiert und standardisiert (C2PA), dass KI sie erzeugt hat und mit welchem Modell; nichts über Sie. Andere können es lesen und können es entfernen.</translation>
        </message>
        <message>
            <source>Refresh</source>
            <translation>Aktualisieren</translation>
        </message>
        <message>
            <source>Refresh cameras</source>
            <translation>Kameras aktualisieren</translation>
        </message>
        <message>
            <source>Refresh microphones</source>
            <translation>Mikrofone aktualisieren</translation>
        </message>
        <message>
            <source>Remember the calibration</source>
            <translation>Kalibrierung merken</translation>
        </message>
        <message>
            <source>Remove</source>
            <translation>Entfernen</translation>
        </message>
        <message>
            <source>Remove it</source>
            <translation>Entfernen</translation>
        </message>
        <message>
            <source>Rename</source>
            <translation>Umbenennen</translation>
        </message>
        <message>
            <source>Rename a portrait of yours</source>
            <translation>Ein eigenes Porträt umbenennen</translation>
        </message>
        <message>
            <source>Rename a preset</source>
            <translation>Voreinstellung umbenennen</translation>
        </message>
        <message>
            <source>Rename…</source>
            <translation>Umbenennen …</translation>
        </message>
        <message>
            <source>Reset the place</source>
            <translation>Lage zurücksetzen</translation>
        </message>
        <message>
            <source>Rests still</source>
            <translation>Ruht still</translation>
        </message>
        <message>
            <source>SLATE</source>
            <translation>PAUSENBILD</translation>
        </message>
        <message>
            <source>STANDBY</source>
            <translation>BEREIT</translation>
        </message>
        <message>
            <source>STARTING</source>
            <translation>START</translation>
        </message>
        <message>
            <source>Save</source>
            <translation>Speichern</translation>
        </message>
        <message>
            <source>Save a picture of the output</source>
            <translation>Ein Bild der Ausgabe speichern</translation>
        </message>
        <message>
            <source>Save a picture of the output (P)</source>
            <translation>Ein Bild der Ausgabe speichern (P)</translation>
        </message>
        <message>
            <source>Save a preset</source>
            <translation>Voreinstellung speichern</translation>
        </message>
        <message>
            <source>Save as…</source>
            <translation>Speichern unter …</translation>
        </message>
        <message>
            <source>Saved: {path}</source>
            <translation>Gespeichert: {path}</translation>
        </message>
        <message>
            <source>Says in the picture that it is synthetic. Please leave it on when others watch.</source>
            <translation>Sagt im Bild, dass es künstlich ist. Bitte lassen Sie es an, wenn andere zusehen.</translation>
        </message>
        <message>
            <source>Scene</source>
            <translation>Szene</translation>
        </message>
        <message>
            <source>Score of the portrait</source>
            <translation>Bewertung des Porträts</translation>
        </message>
        <message>
            <source>Score {score} of 100</source>
            <translation>{score} von 100 Punkten</translation>
        </message>
        <message>
            <source>Score {score} of 100: {remarks}</source>
            <translation>{score} von 100 Punkten: {remarks}</translation>
        </message>
        <message>
            <source>Secure Boot is on: if modprobe says that the key was rejected, enrol the key that signs the module, restart, and confirm it in the blue menu</source>
            <translation>Secure Boot ist an: Sagt modprobe, dass der Schlüssel abgelehnt wurde, melden Sie den Schlüssel an, der das Modul signiert, starten Sie neu, und bestätigen Sie ihn im blauen Menü</translation>
        </message>
        <message>
            <source>See and adjust the crop</source>
            <translation>Ausschnitt ansehen und anpassen</translation>
        </message>
        <message>
            <source>See which program it is, and close it</source>
            <translation>Sehen Sie nach, welches Programm es ist, und schließen Sie es</translation>
        </message>
        <message>
            <source>Settings &gt; Privacy &amp; security &gt; Camera</source>
            <translation>Einstellungen &gt; Datenschutz und Sicherheit &gt; Kamera</translation>
        </message>
        <message>
            <source>Sharpness</source>
            <translation>Schärfe</translation>
        </message>
        <message>
            <source>Shift</source>
            <translation>Versatz</translation>
        </message>
        <message>
            <source>Shoulders, hair and the room are seen as far as the photo shows them, not the portrait's square alone.</source>
            <translation>Schultern, Haare und der Raum sind zu sehen, so weit das Foto sie zeigt, nicht nur das Quadrat des Porträts.</translation>
        </message>
        <message>
            <source>Show below what is measured (I).</source>
            <translation>Zeigt unten, was gemessen wird (I).</translation>
        </message>
        <message>
            <source>Show me the output as in a mirror (R), but for the badge; the call sees it unchanged.</source>
            <translation>Zeigt mir die Ausgabe wie im Spiegel (R), nur das Abzeichen nicht; der Anruf sieht sie unverändert.</translation>
        </message>
        <message>
            <source>Show my camera picture</source>
            <translation>Mein Kamerabild zeigen</translation>
        </message>
        <message>
            <source>Show no face at once (0; from a dialog Ctrl+0)</source>
            <translation>Sofort kein Gesicht zeigen (0; aus einem Dialog Strg+0)</translation>
        </message>
        <message>
            <source>Show or hide my camera picture</source>
            <translation>Mein Kamerabild zeigen oder verbergen</translation>
        </message>
        <message>
            <source>Show the avatar in the preview again (G)</source>
            <translation>Den Avatar wieder in der Vorschau zeigen (G)</translation>
        </message>
        <message>
            <source>Show the avatar to the call (G)</source>
            <translation>Den Avatar dem Anruf zeigen (G)</translation>
        </message>
        <message>
            <source>Show the checklist of the first launch.</source>
            <translation>Zeigt die Liste vom ersten Start.</translation>
        </message>
        <message>
            <source>Show the controls here</source>
            <translation>Hier die Regler zeigen</translation>
        </message>
        <message>
            <source>Show the folder of recordings and snapshots</source>
            <translation>Den Ordner der Aufnahmen und Schnappschüsse zeigen</translation>
        </message>
        <message>
            <source>Show the next step</source>
            <translation>Den nächsten Schritt zeigen</translation>
        </message>
        <message>
            <source>Show the portraits here</source>
            <translation>Hier die Porträts zeigen</translation>
        </message>
        <message>
            <source>Show the slate without a picture again</source>
            <translation>Das Pausenbild wieder ohne eigenes Bild zeigen</translation>
        </message>
        <message>
            <source>Show the whole photo</source>
            <translation>Das ganze Foto zeigen</translation>
        </message>
        <message>
            <source>Show what the network does with your motion (N).</source>
            <translation>Zeigt, was das Netz mit Ihrer Bewegung macht (N).</translation>
        </message>
        <message>
            <source>Show window</source>
            <translation>Fenster zeigen</translation>
        </message>
        <message>
            <source>Shows the portrait's own pores and hairs, which the network leaves out, as far as its picture has the pixels. It takes some milliseconds per picture: switch it off if the avatar stutters.</source>
            <translation>Zeigt Poren und Haare des Porträts selbst, die das Netz auslässt, soweit sein Bild die Pixel dafür hat. Das kostet einige Millisekunden je Bild: Schalten Sie es aus, wenn der Avatar ruckelt.</translation>
        </message>
        <message>
            <source>Shows the slate from every window: press the key that you want, such as Ctrl+Alt+0.</source>
            <translation>Zeigt das Pausenbild aus jedem Fenster: Drücken Sie die gewünschte Taste, etwa Strg+Alt+0.</translation>
        </message>
        <message>
            <source>Sideways</source>
            <translation>Seitwärts</translation>
        </message>
        <message>
            <source>Silent while you show the slate.</source>
            <translation>Stumm, solange Sie das Pausenbild zeigen.</translation>
        </message>
        <message>
            <source>Size</source>
            <translation>Größe</translation>
        </message>
        <message>
            <source>Slate</source>
            <translation>Pausenbild</translation>
        </message>
        <message>
            <source>Slate at once: the call sees no face</source>
            <translation>Sofort Pausenbild: Der Anruf sieht kein Gesicht</translation>
        </message>
        <message>
            <source>Slate key</source>
            <translation>Pausentaste</translation>
        </message>
        <message>
            <source>Slate says</source>
            <translation>Text</translation>
        </message>
        <message>
            <source>Slate's picture…</source>
            <translation>Pausenbild …</translation>
        </message>
        <message>
            <source>Smoothing</source>
            <translation>Glättung</translation>
        </message>
        <message>
            <source>Snapshot</source>
            <translation>Schnappschuss</translation>
        </message>
        <message>
            <source>Something unexpected went wrong ({key}): {error}.</source>
            <translation>Etwas Unerwartetes ist schiefgegangen ({key}): {error}.</translation>
        </message>
        <message>
            <source>Something unexpected went wrong in the window: {kind}: {error}. The log tells more.</source>
            <translation>Im Fenster ist etwas Unerwartetes schiefgegangen: {kind}: {error}. Das Protokoll sagt mehr.</translation>
        </message>
        <message>
            <source>Sound</source>
            <translation>Ton</translation>
        </message>
        <message>
            <source>Speak as you will in the recording: the bar should reach the middle, and not turn red.</source>
            <translation>Sprechen Sie, wie Sie es in der Aufnahme tun werden: Der Balken sollte die Mitte erreichen und nicht rot werden.</translation>
        </message>
        <message>
            <source>Speed here: not measured yet</source>
            <translation>Tempo hier: noch nicht gemessen</translation>
        </message>
        <message>
            <source>Speed here: {frame_ms:.3g} ms per frame, measured</source>
            <translation>Tempo hier: {frame_ms:.3g} ms je Bild, gemessen</translation>
        </message>
        <message>
            <source>Square to animate</source>
            <translation>Quadrat, das animiert wird</translation>
        </message>
        <message>
            <source>Standard</source>
            <translation>Standard</translation>
        </message>
        <message>
            <source>Start PipeWire again</source>
            <translation>Starten Sie PipeWire neu</translation>
        </message>
        <message>
            <source>Start again</source>
            <translation>Neu starten</translation>
        </message>
        <message>
            <source>Start as usual</source>
            <translation>Wie gewohnt starten</translation>
        </message>
        <message>
            <source>Start it, now and at every login</source>
            <translation>Starten Sie es, jetzt und bei jeder Anmeldung</translation>
        </message>
        <message>
            <source>Start or stop the recording</source>
            <translation>Aufnahme beginnen oder beenden</translation>
        </message>
        <message>
            <source>Start safely</source>
            <translation>Sicher starten</translation>
        </message>
        <message>
            <source>Start the app as the user who is logged in, and not with sudo</source>
            <translation>Starten Sie die App als der angemeldete Benutzer und nicht mit sudo</translation>
        </message>
        <message>
            <source>Statistics</source>
            <translation>Statistik</translation>
        </message>
        <message>
            <source>Status</source>
            <translation>Status</translation>
        </message>
        <message>
            <source>Step {number}, {title}: {state}. {text}</source>
            <translation>Schritt {number}, {title}: {state}. {text}</translation>
        </message>
        <message>
            <source>Step {step} of {steps}</source>
            <translation>Schritt {step} von {steps}</translation>
        </message>
        <message>
            <source>Still learning: step unknown</source>
            <translation>Lernt noch: Schritt unbekannt</translation>
        </message>
        <message>
            <source>Still learning: step {step}</source>
            <translation>Lernt noch: Schritt {step}</translation>
        </message>
        <message>
            <source>Still learning: step {step} of {of}</source>
            <translation>Lernt noch: Schritt {step} von {of}</translation>
        </message>
        <message>
            <source>Stop</source>
            <translation>Anhalten</translation>
        </message>
        <message>
            <source>Stop everything and quit</source>
            <translation>Alles anhalten und beenden</translation>
        </message>
        <message>
            <source>Stop painting it, as saves power; the call and recordings go on.</source>
            <translation>Zeichnet sie nicht mehr, was Strom spart; Anruf und Aufnahmen laufen weiter.</translation>
        </message>
        <message>
            <source>Stop recording</source>
            <translation>Aufnahme beenden</translation>
        </message>
        <message>
            <source>Stop recording my motion</source>
            <translation>Aufnahme meiner Bewegung beenden</translation>
        </message>
        <message>
            <source>Stop the virtual camera in OBS</source>
            <translation>Halten Sie die virtuelle Kamera in OBS an</translation>
        </message>
        <message>
            <source>Straighten</source>
            <translation>Gerade richten</translation>
        </message>
        <message>
            <source>Strengths of motion and expression, with all their parts, by name. Each portrait remembers its own.</source>
            <translation>Stärken von Bewegung und Mimik mit allen Teilen, unter einem Namen. Jedes Porträt merkt sich seine eigenen.</translation>
        </message>
        <message>
            <source>Switch on</source>
            <translation>Einschalten</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: a call keeps what it began with.</source>
            <translation>Schalten Sie zuerst die virtuelle Kamera aus: Ein Anruf behält, womit er begann.</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: no model runs.</source>
            <translation>Schalten Sie zuerst die virtuelle Kamera aus: Es läuft kein Modell.</translation>
        </message>
        <message>
            <source>System</source>
            <translation>System</translation>
        </message>
        <message>
            <source>System Settings &gt; Privacy &amp; Security &gt; Camera</source>
            <translation>Systemeinstellungen &gt; Datenschutz &amp; Sicherheit &gt; Kamera</translation>
        </message>
        <message>
            <source>Take this picture of yours out of the gallery (Delete)</source>
            <translation>Dieses eigene Bild aus der Galerie nehmen (Entf)</translation>
        </message>
        <message>
            <source>Text of the slate</source>
            <translation>Text des Pausenbilds</translation>
        </message>
        <message>
            <source>The address that the camera's app shows, such as http://192.168.1.20:8080/video or rtsp://192.168.1.20/live.
If it wants a password: http://USER:PASSWORD@192.168.1.20:8080/video</source>
            <translation>Die Adresse, die die App der Kamera anzeigt, etwa http://192.168.1.20:8080/video oder rtsp://192.168.1.20/live.
Falls sie ein Passwort verlangt: http://USER:PASSWORD@192.168.1.20:8080/video</translation>
        </message>
        <message>
            <source>The app did not end in order last time: it crashed or was killed.</source>
            <translation>Die App wurde zuletzt nicht ordentlich beendet: Sie ist abgestürzt oder wurde abgebrochen.</translation>
        </message>
        <message>
            <source>The avatar keeps its own face and looks where you look, however you were turned at the calibration.</source>
            <translation>Der Avatar behält sein eigenes Gesicht und schaut, wohin Sie schauen, gleich wie Sie bei der Kalibrierung gedreht waren.</translation>
        </message>
        <message>
            <source>The avatar moves as you move in the picture since the calibration: the paper's way.</source>
            <translation>Der Avatar bewegt sich, wie Sie sich seit der Kalibrierung im Bild bewegen: so, wie es die Veröffentlichung beschreibt.</translation>
        </message>
        <message>
            <source>The avatar takes your very pose and face: for a portrait of yourself.</source>
            <translation>Der Avatar übernimmt genau Ihre Pose und Ihr Gesicht: für ein Porträt von Ihnen selbst.</translation>
        </message>
        <message>
            <source>The background stays still behind the person, instead of moving along with the head.</source>
            <translation>Der Hintergrund bleibt hinter der Person ruhig, statt sich mit dem Kopf zu bewegen.</translation>
        </message>
        <message>
            <source>The brows raised and knit.</source>
            <translation>Die Brauen gehoben und zusammengezogen.</translation>
        </message>
        <message>
            <source>The camera that sees you. Only the avatar leaves this app, never its picture.</source>
            <translation>Die Kamera, die Sie sieht. Nur der Avatar verlässt diese App, nie ihr Bild.</translation>
        </message>
        <message>
            <source>The camera {name} is away ({error}). It comes back by itself.</source>
            <translation>Die Kamera {name} ist fort ({error}). Sie kommt von selbst zurück.</translation>
        </message>
        <message>
            <source>The card beside {name} is of other weights: do not trust what it says.</source>
            <translation>Die Karte neben {name} gehört zu anderen Gewichten: Trauen Sie ihr nicht.</translation>
        </message>
        <message>
            <source>The first nine portraits</source>
            <translation>Die ersten neun Porträts</translation>
        </message>
        <message>
            <source>The folder {folder} does not answer: what goes there waits for it. Choose another folder under “Output and computer” if it stays so.</source>
            <translation>Der Ordner {folder} antwortet nicht: Was dorthin soll, wartet auf ihn. Wählen Sie unter „Ausgabe und Computer“ einen anderen Ordner, wenn es so bleibt.</translation>
        </message>
        <message>
            <source>The head leant towards a shoulder.</source>
            <translation>Der Kopf zur Schulter geneigt.</translation>
        </message>
        <message>
            <source>The head moved in the picture.</source>
            <translation>Der Kopf im Bild verschoben.</translation>
        </message>
        <message>
            <source>The head moved towards the camera and away from it.</source>
            <translation>Der Kopf zur Kamera hin und von ihr weg bewegt.</translation>
        </message>
        <message>
            <source>The head raised and lowered.</source>
            <translation>Der Kopf gehoben und gesenkt.</translation>
        </message>
        <message>
            <source>The head turned to the sides.</source>
            <translation>Der Kopf zur Seite gedreht.</translation>
        </message>
        <message>
            <source>The key is not heard: {why}.</source>
            <translation>Auf die Taste wird nicht gehört: {why}.</translation>
        </message>
        <message>
            <source>The language changes at the next start of the app.</source>
            <translation>Die Sprache wechselt beim nächsten Start der App.</translation>
        </message>
        <message>
            <source>The microphone for calls is being made…</source>
            <translation>Das Mikrofon für Anrufe wird angelegt …</translation>
        </message>
        <message>
            <source>The microphone is being opened…</source>
            <translation>Das Mikrofon wird geöffnet …</translation>
        </message>
        <message>
            <source>The model has given no picture for a while, so the output shows the slate. It goes on by itself once there is one; if it stays so, start again.</source>
            <translation>Das Modell hat eine Weile kein Bild geliefert, deshalb zeigt die Ausgabe das Pausenbild. Sie geht von selbst weiter, sobald es eines gibt; bleibt es so, starten Sie neu.</translation>
        </message>
        <message>
            <source>The model's card</source>
            <translation>Die Karte des Modells</translation>
        </message>
        <message>
            <source>The network that animates the portrait: the bundled one, or a file or folder of yours.</source>
            <translation>Das Netz, das das Porträt animiert: das mitgelieferte, oder eine eigene Datei oder ein eigener Ordner.</translation>
        </message>
        <message>
            <source>The one chosen before</source>
            <translation>Das zuvor gewählte</translation>
        </message>
        <message>
            <source>The output shows the slate.</source>
            <translation>Die Ausgabe zeigt das Pausenbild.</translation>
        </message>
        <message>
            <source>The picture is that late. Set this delay for your microphone (OBS: Advanced audio properties, sync offset) and lips and sound agree.</source>
            <translation>Das Bild kommt um so viel später. Stellen Sie diese Verzögerung für Ihr Mikrofon ein (OBS: Erweiterte Audioeigenschaften, Sync-Versatz), dann passen Lippen und Ton zusammen.</translation>
        </message>
        <message>
            <source>The portrait over your picture (Z and C); for motion in the plane, to line up the pose.</source>
            <translation>Das Porträt über Ihrem Bild (Z und C); für Bewegung in der Ebene, um die Pose anzugleichen.</translation>
        </message>
        <message>
            <source>The portrait {first} is not in the gallery any more; {name} is used.</source>
            <translation>Das Porträt {first} ist nicht mehr in der Galerie; {name} wird verwendet.</translation>
        </message>
        <message>
            <source>The portrait's own, blurred</source>
            <translation>Der des Porträts, unscharf</translation>
        </message>
        <message>
            <source>The portrait's own, still</source>
            <translation>Der des Porträts, ruhig</translation>
        </message>
        <message>
            <source>The portrait, moved and nothing else</source>
            <translation>Das Porträt, bewegt und sonst nichts</translation>
        </message>
        <message>
            <source>The preset {name} has these strengths now.</source>
            <translation>Die Voreinstellung {name} hat jetzt diese Stärken.</translation>
        </message>
        <message>
            <source>The preset {name} was deleted.</source>
            <translation>Die Voreinstellung {name} wurde gelöscht.</translation>
        </message>
        <message>
            <source>The presets could not be read ({error}). There are none for now; {kept}.</source>
            <translation>Die Voreinstellungen konnten nicht gelesen werden ({error}). Zurzeit gibt es keine; {kept}.</translation>
        </message>
        <message>
            <source>The preview is paused; the output goes on.</source>
            <translation>Die Vorschau ist angehalten; die Ausgabe läuft weiter.</translation>
        </message>
        <message>
            <source>The recording goes on without sound, which failed ({error}). For sound, begin another one.</source>
            <translation>Die Aufnahme geht ohne Ton weiter, der ausgefallen ist ({error}). Für Ton beginnen Sie eine neue.</translation>
        </message>
        <message>
            <source>The recording had not begun: there is no file.</source>
            <translation>Die Aufnahme hatte nicht begonnen: Es gibt keine Datei.</translation>
        </message>
        <message>
            <source>The recording has no sound, since its encoder cannot be opened ({error}). Install the app again.</source>
            <translation>Die Aufnahme hat keinen Ton, weil dessen Encoder nicht geöffnet werden kann ({error}). Installieren Sie die App neu.</translation>
        </message>
        <message>
            <source>The recording of your motion ended: {why}.</source>
            <translation>Die Aufnahme Ihrer Bewegung endete: {why}.</translation>
        </message>
        <message>
            <source>The same, from a dialog for files or colours too</source>
            <translation>Dasselbe, auch aus einem Dialog für Dateien oder Farben</translation>
        </message>
        <message>
            <source>The settings could not be read ({error}). Defaults are in use; {kept}.</source>
            <translation>Die Einstellungen konnten nicht gelesen werden ({error}). Es gelten die voreingestellten; {kept}.</translation>
        </message>
        <message>
            <source>The slate cannot show {characters}. Leave that out, or choose a picture that shows it for the slate.</source>
            <translation>Das Pausenbild kann {characters} nicht darstellen. Lassen Sie das weg, oder wählen Sie ein Pausenbild, das es zeigt.</translation>
        </message>
        <message>
            <source>The slate key is not heard: {why}.</source>
            <translation>Auf die Pausentaste wird nicht gehört: {why}.</translation>
        </message>
        <message>
            <source>The system does not let this app use the camera. Allow it in System Settings, Privacy.</source>
            <translation>Das System lässt diese App die Kamera nicht verwenden. Erlauben Sie es in den Systemeinstellungen unter „Datenschutz“.</translation>
        </message>
        <message>
            <source>The system is asked for the key…</source>
            <translation>Das System wird um die Taste gebeten …</translation>
        </message>
        <message>
            <source>The system's usual one</source>
            <translation>Das im System übliche</translation>
        </message>
        <message>
            <source>The virtual camera {called} does not answer ({cause}).</source>
            <translation>Die virtuelle Kamera {called} antwortet nicht ({cause}).</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by another program.</source>
            <translation>Die virtuelle Kamera {called} wird von einem anderen Programm benutzt.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by {by}.</source>
            <translation>Die virtuelle Kamera {called} wird von {by} benutzt.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready, but Chrome and Teams will not list it (exclusive_caps=0).</source>
            <translation>Die virtuelle Kamera {called} ist bereit, aber Chrome und Teams werden sie nicht anbieten (exclusive_caps=0).</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready.</source>
            <translation>Die virtuelle Kamera {called} ist bereit.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is there, but you may not use it.</source>
            <translation>Die virtuelle Kamera {called} ist da, aber Sie dürfen sie nicht benutzen.</translation>
        </message>
        <message>
            <source>The virtual camera {called} takes our pictures.</source>
            <translation>Die virtuelle Kamera {called} nimmt unsere Bilder an.</translation>
        </message>
        <message>
            <source>The virtual camera {name} is ready.</source>
            <translation>Die virtuelle Kamera {name} ist bereit.</translation>
        </message>
        <message>
            <source>The {camera} is in use: OBS itself or another program writes to it.</source>
            <translation>{camera} wird benutzt: OBS selbst oder ein anderes Programm schreibt darauf.</translation>
        </message>
        <message>
            <source>The {camera} is installed, but you have not approved it yet.</source>
            <translation>{camera} ist installiert, aber Sie haben sie noch nicht zugelassen.</translation>
        </message>
        <message>
            <source>The {camera} is ready.</source>
            <translation>{camera} ist bereit.</translation>
        </message>
        <message>
            <source>Theme</source>
            <translation>Farbschema</translation>
        </message>
        <message>
            <source>There is no face in this square of {name}: move the square over a face that looks towards the camera, or choose the automatic crop.</source>
            <translation>In diesem Quadrat von {name} ist kein Gesicht: Verschieben Sie es über ein Gesicht, das zur Kamera schaut, oder wählen Sie den automatischen Ausschnitt.</translation>
        </message>
        <message>
            <source>There is no folder {folder} to open yet: it is made with the first recording or snapshot.</source>
            <translation>Den Ordner {folder} gibt es noch nicht: Er wird mit der ersten Aufnahme oder dem ersten Schnappschuss angelegt.</translation>
        </message>
        <message>
            <source>There is no picture in the clipboard: copy one first.</source>
            <translation>In der Zwischenablage ist kein Bild: Kopieren Sie zuerst eines.</translation>
        </message>
        <message>
            <source>There is no picture in the folder {folder}: choose one that has some.</source>
            <translation>Im Ordner {folder} ist kein Bild: Wählen Sie einen mit Bildern.</translation>
        </message>
        <message>
            <source>There is no picture yet to save.</source>
            <translation>Es gibt noch kein Bild zum Speichern.</translation>
        </message>
        <message>
            <source>There is no virtual camera at {device}: got {what}, expected a device of v4l2loopback.</source>
            <translation>Unter {device} ist keine virtuelle Kamera: gefunden: {what}, erwartet: ein Gerät von v4l2loopback.</translation>
        </message>
        <message>
            <source>There is no virtual camera for {system}: expected Linux, Windows or macOS.</source>
            <translation>Für {system} gibt es keine virtuelle Kamera: erwartet wird Linux, Windows oder macOS.</translation>
        </message>
        <message>
            <source>There is no virtual camera in a safe start: start the app again.</source>
            <translation>Bei einem sicheren Start gibt es keine virtuelle Kamera: Starten Sie die App neu.</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera} or UnityCapture's.</source>
            <translation>Es gibt keine virtuelle Kamera {device}: erwartet wird {camera} oder die von UnityCapture.</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera}.</source>
            <translation>Es gibt keine virtuelle Kamera {device}: erwartet wird {camera}.</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS Studio brings one.</source>
            <translation>Es gibt keine virtuelle Kamera: OBS Studio bringt eine mit.</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS is installed, its camera not yet ({camera}).</source>
            <translation>Es gibt keine virtuelle Kamera: OBS ist installiert, seine Kamera noch nicht ({camera}).</translation>
        </message>
        <message>
            <source>There is no virtual camera: got macOS {release}, expected 13 or newer.</source>
            <translation>Es gibt keine virtuelle Kamera: Dies ist macOS {release}, erwartet wird 13 oder neuer.</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is installed, but not loaded.</source>
            <translation>Es gibt keine virtuelle Kamera: v4l2loopback ist installiert, aber nicht geladen.</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is not installed for the kernel {kernel}.</source>
            <translation>Es gibt keine virtuelle Kamera: v4l2loopback ist für den Kernel {kernel} nicht installiert.</translation>
        </message>
        <message>
            <source>There is nothing to record at the moment: wait until the preview goes on.</source>
            <translation>Im Moment gibt es nichts aufzunehmen: Warten Sie, bis die Vorschau weitergeht.</translation>
        </message>
        <message>
            <source>This is a safe start: the processor computes, there is no virtual camera, and all settings are the defaults. Nothing of them is kept; your own are back with the next start.</source>
            <translation>Dies ist ein sicherer Start: Der Prozessor rechnet, es gibt keine virtuelle Kamera, und alle Einstellungen sind die voreingestellten. Davon wird nichts behalten; mit dem nächsten Start sind Ihre eigenen zurück.</translation>
        </message>
        <message>
            <source>This is only the address of a picture: copy the picture itself, or save it and add the file.</source>
            <translation>Das ist nur die Adresse eines Bildes: Kopieren Sie das Bild selbst, oder speichern Sie es und fügen Sie die Datei hinzu.</translation>
        </message>
        <message>
            <source>This list</source>
            <translation>Diese Liste</translation>
        </message>
        <message>
            <source>This portrait's own</source>
            <translation>Die dieses Porträts</translation>
        </message>
        <message>
            <source>Tick first that you may use this picture</source>
            <translation>Bestätigen Sie zuerst, dass Sie dieses Bild verwenden dürfen</translation>
        </message>
        <message>
            <source>Tilt</source>
            <translation>Neigen</translation>
        </message>
        <message>
            <source>Trying again in {seconds} s.</source>
            <translation>Neuer Versuch in {seconds} s.</translation>
        </message>
        <message>
            <source>Turn</source>
            <translation>Drehen</translation>
        </message>
        <message>
            <source>Turn to the left</source>
            <translation>Nach links drehen</translation>
        </message>
        <message>
            <source>Turn to the left by a quarter (Page Up)</source>
            <translation>Um ein Viertel nach links drehen (Bild auf)</translation>
        </message>
        <message>
            <source>Turn to the right</source>
            <translation>Nach rechts drehen</translation>
        </message>
        <message>
            <source>Turn to the right by a quarter (Page Down)</source>
            <translation>Um ein Viertel nach rechts drehen (Bild ab)</translation>
        </message>
        <message>
            <source>Turns the picture a little (comma and full stop).</source>
            <translation>Dreht das Bild ein wenig (Komma und Punkt).</translation>
        </message>
        <message>
            <source>Undo</source>
            <translation>Rückgängig</translation>
        </message>
        <message>
            <source>Up and down</source>
            <translation>Auf und ab</translation>
        </message>
        <message>
            <source>Update macOS</source>
            <translation>Aktualisieren Sie macOS</translation>
        </message>
        <message>
            <source>Use a video file…</source>
            <translation>Videodatei …</translation>
        </message>
        <message>
            <source>Use a video, in a loop, instead of a camera</source>
            <translation>Ein Video in einer Schleife anstelle einer Kamera verwenden</translation>
        </message>
        <message>
            <source>Use it all the same</source>
            <translation>Trotzdem verwenden</translation>
        </message>
        <message>
            <source>Use this camera</source>
            <translation>Diese Kamera verwenden</translation>
        </message>
        <message>
            <source>Use this portrait</source>
            <translation>Dieses Porträt verwenden</translation>
        </message>
        <message>
            <source>Videos ({endings});;All files (*)</source>
            <translation>Videos ({endings});;Alle Dateien (*)</translation>
        </message>
        <message>
            <source>View</source>
            <translation>Ansicht</translation>
        </message>
        <message>
            <source>Views</source>
            <translation>Ansichten</translation>
        </message>
        <message>
            <source>Virtual camera</source>
            <translation>Virtuelle Kamera</translation>
        </message>
        <message>
            <source>Warped</source>
            <translation>Verformt</translation>
        </message>
        <message>
            <source>What is missing before going live</source>
            <translation>Was fehlt, um live zu gehen</translation>
        </message>
        <message>
            <source>What is missing, and what to do</source>
            <translation>Was fehlt, und was zu tun ist</translation>
        </message>
        <message>
            <source>What is seen around the portrait, or behind the person.</source>
            <translation>Was um das Porträt herum oder hinter der Person zu sehen ist.</translation>
        </message>
        <message>
            <source>What other programs have to show; keep it secret</source>
            <translation>Was andere Programme vorweisen müssen; halten Sie es geheim</translation>
        </message>
        <message>
            <source>What the avatar does while your face is lost, until the slate comes; it moves with measured keypoints.</source>
            <translation>Was der Avatar tut, während Ihr Gesicht verloren ist, bis das Pausenbild kommt; er bewegt sich mit gemessenen Schlüsselpunkten.</translation>
        </message>
        <message>
            <source>What the decoder makes of it, with the memory's help</source>
            <translation>Was der Decoder daraus macht, mit Hilfe des Gedächtnisses</translation>
        </message>
        <message>
            <source>What the marked place takes from the memory; click to mark another one</source>
            <translation>Was die markierte Stelle aus dem Gedächtnis nimmt; klicken Sie, um eine andere zu markieren</translation>
        </message>
        <message>
            <source>What the network does inside</source>
            <translation>Was das Netz im Inneren macht</translation>
        </message>
        <message>
            <source>What the run has learned since cannot be used: {error}. What it had learned before goes on.</source>
            <translation>Was der Lauf seitdem gelernt hat, kann nicht verwendet werden: {error}. Weiter geht es mit dem, was er vorher gelernt hatte.</translation>
        </message>
        <message>
            <source>What the slate says instead of “Camera is off” or “Be right back”; Enter keeps it.</source>
            <translation>Was das Pausenbild statt „Camera is off“ oder „Be right back“ sagt; die Eingabetaste übernimmt es.</translation>
        </message>
        <message>
            <source>What to do</source>
            <translation>Was zu tun ist</translation>
        </message>
        <message>
            <source>What will be animated</source>
            <translation>Was animiert wird</translation>
        </message>
        <message>
            <source>Where other programs ask; Enter keeps it. 0: any port that is free.</source>
            <translation>Wo andere Programme anfragen; die Eingabetaste übernimmt es. 0: irgendein freier Port.</translation>
        </message>
        <message>
            <source>Where the eyes look.</source>
            <translation>Wohin die Augen sehen.</translation>
        </message>
        <message>
            <source>Where the model runs. Automatic: where it was measured to be fastest.</source>
            <translation>Wo das Modell läuft. Automatisch: wo es gemessen am schnellsten war.</translation>
        </message>
        <message>
            <source>Where the portrait stands; it can be dragged in the preview.</source>
            <translation>Wo das Porträt steht; es kann in der Vorschau gezogen werden.</translation>
        </message>
        <message>
            <source>Where what is shown came from: the direction as a hue, 20 px and more in full colour</source>
            <translation>Woher das Gezeigte kam: die Richtung als Farbton, ab 20 px in voller Sättigung</translation>
        </message>
        <message>
            <source>Which keypoint's motion moves each place, by colour; dark: the background's</source>
            <translation>Welcher Schlüsselpunkt welche Stelle bewegt, nach Farbe; dunkel: der Hintergrund</translation>
        </message>
        <message>
            <source>While away</source>
            <translation>Abwesend</translation>
        </message>
        <message>
            <source>Whose sound recordings have, and calls that take the microphone for calls.</source>
            <translation>Wessen Ton Aufnahmen haben und Anrufe, die das Mikrofon für Anrufe verwenden.</translation>
        </message>
        <message>
            <source>Window</source>
            <translation>Fenster</translation>
        </message>
        <message>
            <source>Windows gives the key to this app</source>
            <translation>Windows gibt dieser App die Taste</translation>
        </message>
        <message>
            <source>Without</source>
            <translation>Ohne</translation>
        </message>
        <message>
            <source>Yellow: the moved portrait is trusted; blue: the picture is generated</source>
            <translation>Gelb: Dem bewegten Porträt wird getraut; blau: Das Bild ist erzeugt</translation>
        </message>
        <message>
            <source>You are not asked to calibrate again before the same camera. What your face measures is kept on this computer for that, for your account alone; switched off, it is deleted.</source>
            <translation>Vor derselben Kamera werden Sie nicht noch einmal um die Kalibrierung gebeten. Was Ihr Gesicht misst, wird dafür auf diesem Computer behalten, nur für Ihr Konto; ausgeschaltet wird es gelöscht.</translation>
        </message>
        <message>
            <source>You, as only you see yourself</source>
            <translation>Sie, wie nur Sie sich sehen</translation>
        </message>
        <message>
            <source>You, with the crop that moves the avatar. Nobody else sees this. Click for another size.</source>
            <translation>Sie, mit dem Ausschnitt, der den Avatar bewegt. Niemand sonst sieht das. Klicken Sie für eine andere Größe.</translation>
        </message>
        <message>
            <source>Your own picture in the preview's corner (B). Hide it before you share this window.</source>
            <translation>Ihr eigenes Bild in der Ecke der Vorschau (B). Verbergen Sie es, bevor Sie dieses Fenster teilen.</translation>
        </message>
        <message>
            <source>Zoom</source>
            <translation>Zoom</translation>
        </message>
        <message>
            <source>Zoom in on you</source>
            <translation>Näher an Sie heran</translation>
        </message>
        <message>
            <source>Zoom out</source>
            <translation>Weiter weg</translation>
        </message>
        <message>
            <source>a camera's number (0), a device (/dev/video0), a network camera's address (http://, rtsp://), a video or motion file, or a folder of pictures</source>
            <translation>die Nummer einer Kamera (0), ein Gerät (/dev/video0), die Adresse einer Netzwerkkamera (http://, rtsp://), eine Video- oder Bewegungsdatei oder ein Ordner mit Bildern</translation>
        </message>
        <message>
            <source>a frame of the model takes {best}</source>
            <translation>ein Bild des Modells dauert {best}</translation>
        </message>
        <message>
            <source>a frame of the model takes {best} ({others})</source>
            <translation>ein Bild des Modells dauert {best} ({others})</translation>
        </message>
        <message>
            <source>a further GPU</source>
            <translation>eine weitere GPU</translation>
        </message>
        <message>
            <source>a list of whole numbers</source>
            <translation>eine Liste ganzer Zahlen</translation>
        </message>
        <message>
            <source>a motion file has no pictures in which this model could detect keypoints: choose a model and a portrait whose keypoints can be measured, as the starter and any portrait with a face</source>
            <translation>eine Bewegungsdatei hat keine Bilder, in denen dieses Modell Schlüsselpunkte erkennen könnte: Wählen Sie ein Modell und ein Porträt, deren Schlüsselpunkte gemessen werden können, etwa starter und ein Porträt mit Gesicht</translation>
        </message>
        <message>
            <source>a motion file has no pictures, so that it moves the avatar in space only: choose that motion</source>
            <translation>eine Bewegungsdatei hat keine Bilder und bewegt den Avatar deshalb nur im Raum: Wählen Sie diese Bewegung</translation>
        </message>
        <message>
            <source>a motion file takes no more than {hours} hours</source>
            <translation>eine Bewegungsdatei fasst höchstens {hours} Stunden</translation>
        </message>
        <message>
            <source>a number of thousands of digits</source>
            <translation>eine Zahl mit tausenden Ziffern</translation>
        </message>
        <message>
            <source>a picture becomes a portrait, a video the camera</source>
            <translation>ein Bild wird zum Porträt, ein Video zur Kamera</translation>
        </message>
        <message>
            <source>a portrait needs a name: got an empty one for {name}, so it keeps its own</source>
            <translation>ein Porträt braucht einen Namen: der für {name} war leer, also behält es seinen</translation>
        </message>
        <message>
            <source>a single number</source>
            <translation>eine einzelne Zahl</translation>
        </message>
        <message>
            <source>a table of values</source>
            <translation>eine Tabelle von Werten</translation>
        </message>
        <message>
            <source>about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure under First steps, or use a computer with a GPU</source>
            <translation>etwa {rate_hz:.2g} Bilder pro Sekunde sind zu wenig für einen Anruf: Schließen Sie, was sonst läuft, und drücken Sie „Messen“ unter „Erste Schritte“, oder verwenden Sie einen Computer mit GPU</translation>
        </message>
        <message>
            <source>age</source>
            <translation>Alter</translation>
        </message>
        <message>
            <source>an AMD GPU</source>
            <translation>eine AMD-GPU</translation>
        </message>
        <message>
            <source>an NVIDIA GPU</source>
            <translation>eine NVIDIA-GPU</translation>
        </message>
        <message>
            <source>an empty file</source>
            <translation>eine leere Datei</translation>
        </message>
        <message>
            <source>an even width at {size_px} px (compensated)</source>
            <translation>eine gerade Breite bei {size_px} px (kompensiert)</translation>
        </message>
        <message>
            <source>an odd number</source>
            <translation>eine ungerade Zahl</translation>
        </message>
        <message>
            <source>another camera is used now</source>
            <translation>jetzt wird eine andere Kamera benutzt</translation>
        </message>
        <message>
            <source>another program has it, maybe another mcnet-avatar</source>
            <translation>ein anderes Programm hat ihn, vielleicht ein anderes mcnet-avatar</translation>
        </message>
        <message>
            <source>as asked</source>
            <translation>wie verlangt</translation>
        </message>
        <message>
            <source>as measured</source>
            <translation>wie gemessen</translation>
        </message>
        <message>
            <source>as usual</source>
            <translation>wie üblich</translation>
        </message>
        <message>
            <source>asked for {asked_hz:g} frames/s, gives {given_hz:g} (more light often helps)</source>
            <translation>verlangt: {asked_hz:g} Bilder/s, geliefert: {given_hz:g} (mehr Licht hilft oft)</translation>
        </message>
        <message>
            <source>asked for {asked}, gives {given}</source>
            <translation>verlangt: {asked}, geliefert: {given}</translation>
        </message>
        <message>
            <source>at least two widths</source>
            <translation>mindestens zwei Breiten</translation>
        </message>
        <message>
            <source>at least {least}</source>
            <translation>mindestens {least}</translation>
        </message>
        <message>
            <source>at most {most}</source>
            <translation>höchstens {most}</translation>
        </message>
        <message>
            <source>avatar</source>
            <translation>Avatar</translation>
        </message>
        <message>
            <source>backend: OpenVINO failed: {failure}</source>
            <translation>Backend: OpenVINO ist ausgefallen: {failure}</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {device} was chosen, expected an NVIDIA GPU</source>
            <translation>Backend: „cudagraph“ war verlangt, aber {device} wurde gewählt; erwartet wird eine NVIDIA-GPU</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {reason}; use backend auto or torch</source>
            <translation>Backend: „cudagraph“ war verlangt, aber {reason}; verwenden Sie das Backend auto oder torch</translation>
        </message>
        <message>
            <source>backend: got 'openvino', but {lack}; use backend torch (or auto), or mend that</source>
            <translation>Backend: „openvino“ war verlangt, aber {lack}; verwenden Sie das Backend torch (oder auto), oder beheben Sie das</translation>
        </message>
        <message>
            <source>backend: got 'torch', but {device} was chosen, where OpenVINO alone computes: use backend auto, or another device</source>
            <translation>Backend: „torch“ war verlangt, aber {device} wurde gewählt, wo nur OpenVINO rechnet: Verwenden Sie das Backend auto oder ein anderes Gerät</translation>
        </message>
        <message>
            <source>backend: got {wanted}, expected one of {allowed}</source>
            <translation>Backend: {wanted} war verlangt, erwartet wird eines von {allowed}</translation>
        </message>
        <message>
            <source>backend: torch has to compute, but {lack}; or install OpenVINO, and use a CPU</source>
            <translation>Backend: torch muss rechnen, aber {lack}; oder installieren Sie OpenVINO, und verwenden Sie den Prozessor</translation>
        </message>
        <message>
            <source>background: {error}; expected own, blur, green, #rrggbb, alpha, or the file of a picture or a video</source>
            <translation>Hintergrund: {error}; erwartet wird own, blur, green, #rrggbb, alpha oder die Datei eines Bildes oder Videos</translation>
        </message>
        <message>
            <source>because {lack}</source>
            <translation>weil Folgendes fehlt: {lack}</translation>
        </message>
        <message>
            <source>blue</source>
            <translation>Blau</translation>
        </message>
        <message>
            <source>calibration</source>
            <translation>Kalibrierung</translation>
        </message>
        <message>
            <source>camera</source>
            <translation>Kamera</translation>
        </message>
        <message>
            <source>camera to model</source>
            <translation>Kamera zum Modell</translation>
        </message>
        <message>
            <source>camera {device}</source>
            <translation>Kamera {device}</translation>
        </message>
        <message>
            <source>camera {name}</source>
            <translation>Kamera {name}</translation>
        </message>
        <message>
            <source>camera: got an address that begins with {scheme}://, expected http://, https:// or rtsp://</source>
            <translation>Kamera: Die Adresse beginnt mit {scheme}://, erwartet wird http://, https:// oder rtsp://</translation>
        </message>
        <message>
            <source>camera: got an address that cannot be read, expected one such as {scheme}://192.168.1.20:8080/video; in a user name or password write / as %2F, @ as %40, # as %23 and ? as %3F</source>
            <translation>Kamera: Die Adresse kann nicht gelesen werden, erwartet wird eine wie {scheme}://192.168.1.20:8080/video; schreiben Sie in Benutzername oder Passwort / als %2F, @ als %40, # als %23 und ? als %3F</translation>
        </message>
        <message>
            <source>camera: got nothing, expected {expected}</source>
            <translation>Kamera: Es wurde nichts angegeben, erwartet wird {expected}</translation>
        </message>
        <message>
            <source>camera: got {asked} for size and rate, expected {least_px} to 8192 pixels per side and 1 to 240 frames/s, as @1280x720@30</source>
            <translation>Kamera: {asked} wurde für Größe und Rate angegeben, erwartet werden {least_px} bis 8192 Pixel je Seite und 1 bis 240 Bilder/s, etwa @1280x720@30</translation>
        </message>
        <message>
            <source>camera: got {shown}, and there is no such file; expected {expected}</source>
            <translation>Kamera: {shown} wurde angegeben, und eine solche Datei gibt es nicht; erwartet wird {expected}</translation>
        </message>
        <message>
            <source>cannot keep the list of portraits in {folder}: {error}; check the disk</source>
            <translation>die Liste der Porträts in {folder} kann nicht gespeichert werden: {error}; prüfen Sie den Datenträger</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames without a face, expected one at least</source>
            <translation>die Bewegung kann nicht in {path} gespeichert werden: {count} Bilder ohne Gesicht, erwartet wird mindestens eines mit</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames, expected at most {most}</source>
            <translation>die Bewegung kann nicht in {path} gespeichert werden: {count} Bilder, erwartet werden höchstens {most}</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {hours:.1f} hours, expected at most {most}</source>
            <translation>die Bewegung kann nicht in {path} gespeichert werden: {hours:.1f} Stunden, erlaubt sind höchstens {most}</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: {why}</source>
            <translation>die Bewegung kann nicht in {path} gespeichert werden: {why}</translation>
        </message>
        <message>
            <source>cannot keep the token of control from outside in {place}: {why}</source>
            <translation>das Token der Steuerung von außen kann nicht in {place} gespeichert werden: {why}</translation>
        </message>
        <message>
            <source>cannot keep the {what} in {path}: {error}; check the folder's permissions</source>
            <translation>in {path} kann nicht gespeichert werden ({what}): {error}; prüfen Sie die Berechtigungen des Ordners</translation>
        </message>
        <message>
            <source>cannot keep this machine's signer in {path}: {why}</source>
            <translation>der Unterzeichner dieses Computers kann nicht in {path} gespeichert werden: {why}</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {type} of shape {shape}, expected uint8 of shape {shapes}, with one pixel at least</source>
            <translation>aus den Daten lässt sich kein Bild für eine {suffix}-Datei machen: {type} der Form {shape} erhalten, uint8 der Form {shapes} erwartet, mit mindestens einem Pixel</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {width} x {height}, expected at most {most} pixels per side; make it smaller</source>
            <translation>es lässt sich kein Bild für eine {suffix}-Datei machen: {width} x {height} erhalten, höchstens {most} Pixel je Seite erwartet; verkleinern Sie es</translation>
        </message>
        <message>
            <source>cannot make the folder for portraits {folder}: {error}; check the disk</source>
            <translation>der Ordner für Porträts {folder} kann nicht angelegt werden: {error}; prüfen Sie den Datenträger</translation>
        </message>
        <message>
            <source>cannot make the folder {folder}: {cause}</source>
            <translation>der Ordner {folder} kann nicht angelegt werden: {cause}</translation>
        </message>
        <message>
            <source>cannot open {path} at {fps_hz} frames/s: expected more than 0</source>
            <translation>{path} kann nicht mit {fps_hz} Bildern/s geöffnet werden: erwartet wird mehr als 0</translation>
        </message>
        <message>
            <source>cannot put the model on {device}: {cause}; use cpu</source>
            <translation>das Modell kann nicht auf {device} geladen werden: {cause}; verwenden Sie cpu</translation>
        </message>
        <message>
            <source>cannot put {name} back: {error}; add the picture again</source>
            <translation>{name} kann nicht zurückgeholt werden: {error}; fügen Sie das Bild erneut hinzu</translation>
        </message>
        <message>
            <source>cannot read the bundled network {path}: {cause}; reinstall the package</source>
            <translation>das mitgelieferte Netz {path} kann nicht gelesen werden: {cause}; installieren Sie das Paket neu</translation>
        </message>
        <message>
            <source>cannot read the list of portraits {path}: {error}; check its permissions</source>
            <translation>die Liste der Porträts {path} kann nicht gelesen werden: {error}; prüfen Sie ihre Berechtigungen</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a camera's raw data, expected {readable}; export it as JPEG</source>
            <translation>das Bild {path} kann nicht gelesen werden: Es enthält Rohdaten einer Kamera, erwartet wird {readable}; exportieren Sie es als JPEG</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a device, expected a file</source>
            <translation>das Bild {path} kann nicht gelesen werden: Es ist ein Gerät, erwartet wird eine Datei</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a folder, expected a file; name one of its files</source>
            <translation>das Bild {path} kann nicht gelesen werden: Es ist ein Ordner, erwartet wird eine Datei; nennen Sie eine aus ihm</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got {what}, expected {readable}</source>
            <translation>das Bild {path} kann nicht gelesen werden: gefunden: {what}, erwartet: {readable}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: it is damaged, cut short or of a kind that cannot be decoded ({said}); open it in a viewer and save it as JPEG, or take another</source>
            <translation>das Bild {path} kann nicht gelesen werden: Es ist beschädigt, abgeschnitten oder von einer Art, die nicht decodiert werden kann ({said}); öffnen Sie es in einem Bildbetrachter und speichern Sie es als JPEG, oder nehmen Sie ein anderes</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {error}</source>
            <translation>das Bild {path} kann nicht gelesen werden: {error}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {said}; check its permissions</source>
            <translation>das Bild {path} kann nicht gelesen werden: {said}; prüfen Sie seine Berechtigungen</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: they are of format {version}, this app knows formats up to {known}; use a newer app, or move the file away</source>
            <translation>die Voreinstellungen in {path} können nicht gelesen werden: Sie haben das Format {version}, diese App kennt Formate bis {known}; verwenden Sie eine neuere App, oder verschieben Sie die Datei</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: {error}; check its permissions, or move it away</source>
            <translation>die Voreinstellungen in {path} können nicht gelesen werden: {error}; prüfen Sie die Berechtigungen, oder verschieben Sie die Datei</translation>
        </message>
        <message>
            <source>cannot read the settings in {path}: {error}; check its permissions, or move it away</source>
            <translation>die Einstellungen in {path} können nicht gelesen werden: {error}; prüfen Sie die Berechtigungen, oder verschieben Sie die Datei</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got a folder, a device or a pipe, and a video is read more than once; save it as a file first</source>
            <translation>das Video {path} kann nicht gelesen werden: Es ist ein Ordner, ein Gerät oder eine Pipe, und ein Video wird mehr als einmal gelesen; speichern Sie es zuerst als Datei</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got an empty file; export or download it again</source>
            <translation>das Video {path} kann nicht gelesen werden: Die Datei ist leer; exportieren oder laden Sie es erneut</translation>
        </message>
        <message>
            <source>cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM</source>
            <translation>das Video {path} kann nicht gelesen werden: {said}; erwartet wird ein Video wie MP4, MOV oder WebM</translation>
        </message>
        <message>
            <source>cannot read this machine's signer {path}: {why}</source>
            <translation>der Unterzeichner dieses Computers {path} kann nicht gelesen werden: {why}</translation>
        </message>
        <message>
            <source>cannot read {path}: got a device or a pipe, expected a file</source>
            <translation>{path} kann nicht gelesen werden: Es ist ein Gerät oder eine Pipe, erwartet wird eine Datei</translation>
        </message>
        <message>
            <source>cannot read {path}: {why}; check its name</source>
            <translation>{path} kann nicht gelesen werden: {why}; prüfen Sie den Namen</translation>
        </message>
        <message>
            <source>cannot record to {path}: got suffix {suffix}, expected .mp4 or .webm</source>
            <translation>nach {path} kann nicht aufgenommen werden: Die Endung ist {suffix}, erwartet wird .mp4 oder .webm</translation>
        </message>
        <message>
            <source>cannot record to {path}: the encoder {codec} cannot be opened for {width_px} x {height_px} ({cause}); choose another size, or install the app again</source>
            <translation>nach {path} kann nicht aufgenommen werden: Der Encoder {codec} lässt sich nicht für {width_px} x {height_px} öffnen ({cause}); wählen Sie eine andere Größe, oder installieren Sie die App neu</translation>
        </message>
        <message>
            <source>cannot record to {path}: there is no folder {parent}; make it first</source>
            <translation>nach {path} kann nicht aufgenommen werden: Es gibt keinen Ordner {parent}; legen Sie ihn zuerst an</translation>
        </message>
        <message>
            <source>cannot record to {path}: {cause}</source>
            <translation>nach {path} kann nicht aufgenommen werden: {cause}</translation>
        </message>
        <message>
            <source>cannot remove the token {place}: {why}</source>
            <translation>das Token {place} kann nicht entfernt werden: {why}</translation>
        </message>
        <message>
            <source>cannot remove {path}: {error}; check the folder's permissions</source>
            <translation>{path} kann nicht entfernt werden: {error}; prüfen Sie die Berechtigungen des Ordners</translation>
        </message>
        <message>
            <source>cannot say in {place} where the app listens: {why}</source>
            <translation>in {place} kann nicht vermerkt werden, wo die App antwortet: {why}</translation>
        </message>
        <message>
            <source>cannot use the file {path}: {cause}; check its name and its folder</source>
            <translation>die Datei {path} kann nicht verwendet werden: {cause}; prüfen Sie ihren Namen und ihren Ordner</translation>
        </message>
        <message>
            <source>cannot use the file: {cause}; check its name and its folder</source>
            <translation>die Datei kann nicht verwendet werden: {cause}; prüfen Sie ihren Namen und ihren Ordner</translation>
        </message>
        <message>
            <source>cannot use the folder {folder}: {cause}</source>
            <translation>der Ordner {folder} kann nicht benutzt werden: {cause}</translation>
        </message>
        <message>
            <source>cannot use the pictures of {path}: got {name}, {width} x {height}, which cannot be converted ({error}); export it again as H.264 in MP4</source>
            <translation>die Bilder von {path} können nicht verwendet werden: {name}, {width} x {height} lässt sich nicht umwandeln ({error}); exportieren Sie es erneut als H.264 in MP4</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got an animated WebP, whose pictures cannot be decoded; convert it to MP4 or GIF</source>
            <translation>{path} kann nicht als Video benutzt werden: Es ist ein animiertes WebP, dessen Bilder nicht dekodiert werden können; wandeln Sie es in MP4 oder GIF um</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got {what}, expected a video with pictures, such as H.264 in MP4</source>
            <translation>{path} kann nicht als Video verwendet werden: gefunden: {what}, erwartet: ein Video mit Bildern, etwa H.264 in MP4</translation>
        </message>
        <message>
            <source>cannot write a picture to {path}: got suffix {suffix}, expected {suffixes}</source>
            <translation>nach {path} kann kein Bild geschrieben werden: Die Endung ist {suffix}, erwartet wird {suffixes}</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: it is a folder, expected a file name</source>
            <translation>das Bild {path} kann nicht geschrieben werden: Es ist ein Ordner, erwartet wird ein Dateiname</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: {cause}</source>
            <translation>das Bild {path} kann nicht geschrieben werden: {cause}</translation>
        </message>
        <message>
            <source>choose a disk that takes larger files, or make it shorter</source>
            <translation>wählen Sie einen Datenträger, der größere Dateien annimmt, oder machen Sie es kürzer</translation>
        </message>
        <message>
            <source>choose another place</source>
            <translation>wählen Sie einen anderen Ort</translation>
        </message>
        <message>
            <source>chroma green</source>
            <translation>Chroma-Grün</translation>
        </message>
        <message>
            <source>close your mouth</source>
            <translation>schließen Sie den Mund</translation>
        </message>
        <message>
            <source>compose</source>
            <translation>Bild bauen</translation>
        </message>
        <message>
            <source>config key {key}: got {got}, expected {expected}</source>
            <translation>Konfigurationsschlüssel {key}: {got} erhalten, {expected} erwartet</translation>
        </message>
        <message>
            <source>config key {prefix}{missing} is missing</source>
            <translation>der Konfigurationsschlüssel {prefix}{missing} fehlt</translation>
        </message>
        <message>
            <source>control from outside cannot listen on port {port}: {why}; choose another port, or 0 for any that is free</source>
            <translation>die Steuerung von außen kann Port {port} nicht verwenden: {why}; wählen Sie einen anderen Port, oder 0 für irgendeinen freien</translation>
        </message>
        <message>
            <source>control from outside cannot start: {why}</source>
            <translation>die Steuerung von außen kann nicht starten: {why}</translation>
        </message>
        <message>
            <source>control from outside: got port {port}, expected 0 to 65535</source>
            <translation>Steuerung von außen: Der Port ist {port}, erwartet wird 0 bis 65535</translation>
        </message>
        <message>
            <source>crop</source>
            <translation>Ausschnitt</translation>
        </message>
        <message>
            <source>cut out</source>
            <translation>Freistellen</translation>
        </message>
        <message>
            <source>cutting the person out; the scene stays until then…</source>
            <translation>die Person wird freigestellt; bis dahin bleibt die Szene …</translation>
        </message>
        <message>
            <source>delay your microphone by {delay_ms} ms</source>
            <translation>Mikrofon um {delay_ms} ms verzögern</translation>
        </message>
        <message>
            <source>detect</source>
            <translation>Erkennen</translation>
        </message>
        <message>
            <source>device: got {name}, but {lack}; use --device cpu (or auto), or mend that</source>
            <translation>Gerät: {name} war verlangt, aber {lack}; verwenden Sie --device cpu (oder auto), oder beheben Sie das</translation>
        </message>
        <message>
            <source>device: got {name}, expected auto, cpu, cuda, cuda:N, gpu, gpu:N or mps</source>
            <translation>Gerät: {name} war verlangt, erwartet wird auto, cpu, cuda, cuda:N, gpu, gpu:N oder mps</translation>
        </message>
        <message>
            <source>done</source>
            <translation>erledigt</translation>
        </message>
        <message>
            <source>dropped</source>
            <translation>verworfen</translation>
        </message>
        <message>
            <source>dropped {percent:.0f} %</source>
            <translation>{percent:.0f} % verworfen</translation>
        </message>
        <message>
            <source>encode</source>
            <translation>Codieren</translation>
        </message>
        <message>
            <source>everything is ready</source>
            <translation>alles ist bereit</translation>
        </message>
        <message>
            <source>face</source>
            <translation>Gesicht</translation>
        </message>
        <message>
            <source>face lost: returning to rest</source>
            <translation>Gesicht verloren: zurück zur Ruhe</translation>
        </message>
        <message>
            <source>face lost: the last picture stays</source>
            <translation>Gesicht verloren: Das letzte Bild bleibt</translation>
        </message>
        <message>
            <source>fine detail</source>
            <translation>feine Details</translation>
        </message>
        <message>
            <source>getting ready</source>
            <translation>wird vorbereitet</translation>
        </message>
        <message>
            <source>got 32 bits per channel, expected 8 or 16; convert it to JPEG or PNG</source>
            <translation>es hat 32 Bit je Kanal, erwartet werden 8 oder 16; wandeln Sie es in JPEG oder PNG um</translation>
        </message>
        <message>
            <source>got Lab colours with a profile that cannot be used; convert it to JPEG or PNG</source>
            <translation>es hat Lab-Farben mit einem Profil, das nicht verwendet werden kann; wandeln Sie es in JPEG oder PNG um</translation>
        </message>
        <message>
            <source>got PipeWire {version}, expected {oldest} or newer; update it</source>
            <translation>dies ist PipeWire {version}, erwartet wird {oldest} oder neuer; aktualisieren Sie es</translation>
        </message>
        <message>
            <source>got a network address, and only a file of this machine can be used; download it first</source>
            <translation>das ist eine Netzwerkadresse, und nur eine Datei auf diesem Computer kann verwendet werden; laden Sie sie zuerst herunter</translation>
        </message>
        <message>
            <source>got figures of format {evaluation}, expected 'mcnet-evaluation/2'</source>
            <translation>die Messwerte haben das Format {evaluation}, erwartet wird „mcnet-evaluation/2“</translation>
        </message>
        <message>
            <source>got only a private key to sign with: name the file of its certificates as well</source>
            <translation>zum Signieren ist nur ein privater Schlüssel angegeben: Nennen Sie auch die Datei seiner Zertifikate</translation>
        </message>
        <message>
            <source>got only certificates to sign with: name the file of their private key as well</source>
            <translation>zum Signieren sind nur Zertifikate angegeben: Nennen Sie auch die Datei ihres privaten Schlüssels</translation>
        </message>
        <message>
            <source>got pictures of shape {shape}, expected (height, width, 3) of at least {least_px} pixels per side</source>
            <translation>die Bilder haben die Form {shape}, erwartet wird (Höhe, Breite, 3) mit mindestens {least_px} Pixeln je Seite</translation>
        </message>
        <message>
            <source>got {got}, expected a list</source>
            <translation>{got}, erwartet wird eine Liste</translation>
        </message>
        <message>
            <source>ink</source>
            <translation>Tinte</translation>
        </message>
        <message>
            <source>install the app again</source>
            <translation>installieren Sie die App neu</translation>
        </message>
        <message>
            <source>int8 with OpenVINO, else {precision}</source>
            <translation>int8 mit OpenVINO, sonst {precision}</translation>
        </message>
        <message>
            <source>it cannot be signed: {why}</source>
            <translation>es kann nicht signiert werden: {why}</translation>
        </message>
        <message>
            <source>it has {frames} frames, which is as many as a motion file takes</source>
            <translation>sie hat {frames} Bilder, mehr fasst eine Bewegungsdatei nicht</translation>
        </message>
        <message>
            <source>it is the fastest on x86-64 CPUs</source>
            <translation>es ist auf x86-64-Prozessoren am schnellsten</translation>
        </message>
        <message>
            <source>it is what computes on Apple GPUs</source>
            <translation>es ist, was auf Apple-GPUs rechnet</translation>
        </message>
        <message>
            <source>it is what computes on Intel GPUs</source>
            <translation>es ist, was auf Intel-GPUs rechnet</translation>
        </message>
        <message>
            <source>it opens, but gives no frames</source>
            <translation>sie lässt sich öffnen, liefert aber keine Bilder</translation>
        </message>
        <message>
            <source>it was changed, moved or removed while it was being signed</source>
            <translation>es wurde während des Signierens geändert, verschoben oder entfernt</translation>
        </message>
        <message>
            <source>it was ended</source>
            <translation>es wurde beendet</translation>
        </message>
        <message>
            <source>it was removed meanwhile</source>
            <translation>sie wurde inzwischen entfernt</translation>
        </message>
        <message>
            <source>its first {value:g} s are kept</source>
            <translation>die ersten {value:g} s sind erhalten</translation>
        </message>
        <message>
            <source>its header is no JSON</source>
            <translation>der Kopf der Datei ist kein JSON</translation>
        </message>
        <message>
            <source>its linear jacobians are no {rows} rows of {columns} numbers, as {count} keypoints on the face mesh have them</source>
            <translation>seine linearen Jacobi-Matrizen sind keine {rows} Zeilen mit {columns} Zahlen, wie {count} Schlüsselpunkte auf dem Gesichtsnetz sie haben</translation>
        </message>
        <message>
            <source>its linear jacobians have {value}, expected finite numbers</source>
            <translation>seine linearen Jacobi-Matrizen enthalten {value}, erwartet sind endliche Zahlen</translation>
        </message>
        <message>
            <source>its process ended with {status}: out of memory, or a library crashed</source>
            <translation>sein Prozess endete mit {status}: Der Speicher reichte nicht, oder eine Bibliothek ist abgestürzt</translation>
        </message>
        <message>
            <source>its statement would go to {path}, where another file is: move or rename that one</source>
            <translation>die zugehörige Erklärung käme nach {path}, wo schon eine andere Datei liegt: Verschieben Sie diese oder benennen Sie sie um</translation>
        </message>
        <message>
            <source>key: got {key}, expected a letter, a digit, F1 to F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown or Space, with Ctrl, Alt, Shift or Meta, such as Ctrl+Alt+0</source>
            <translation>Taste: {key}; erwartet wird ein Buchstabe, eine Ziffer, F1 bis F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown oder Space, mit Ctrl, Alt, Shift oder Meta, etwa Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>key: {key} alone would be taken from whatever you write: choose it with Ctrl, Alt or Meta, or a key such as Pause or F9</source>
            <translation>Taste: {key} allein würde Ihnen beim Schreiben fehlen: Wählen Sie sie mit Strg, Alt oder Meta, oder eine Taste wie Pause oder F9</translation>
        </message>
        <message>
            <source>key: {key} is another program's already, the desktop's maybe: choose another one</source>
            <translation>Taste: {key} gehört schon einem anderen Programm, vielleicht dem Desktop: Wählen Sie eine andere</translation>
        </message>
        <message>
            <source>key: {key} is another program's already: choose another one</source>
            <translation>Taste: {key} gehört schon einem anderen Programm: Wählen Sie eine andere</translation>
        </message>
        <message>
            <source>key: {key} is not on this keyboard: choose another one, such as Ctrl+Alt+0</source>
            <translation>Taste: {key} ist nicht auf dieser Tastatur: Wählen Sie eine andere, etwa Strg+Alt+0</translation>
        </message>
        <message>
            <source>lids</source>
            <comment>measure</comment>
            <translation>Lider</translation>
        </message>
        <message>
            <source>light grey</source>
            <translation>Hellgrau</translation>
        </message>
        <message>
            <source>live</source>
            <translation>live</translation>
        </message>
        <message>
            <source>loading the model…</source>
            <translation>Modell wird geladen …</translation>
        </message>
        <message>
            <source>look as the portrait does</source>
            <translation>schauen Sie wie das Porträt</translation>
        </message>
        <message>
            <source>look straight into the camera</source>
            <translation>schauen Sie gerade in die Kamera</translation>
        </message>
        <message>
            <source>looking at the model…</source>
            <translation>Modell wird angesehen …</translation>
        </message>
        <message>
            <source>macOS gives a key to one app only with the right to watch all keys: have the Shortcuts app run mcnet-avatar ctl slate by a key</source>
            <translation>macOS gibt einer App eine Taste nur mit dem Recht, alle Tasten zu beobachten: Lassen Sie die App „Kurzbefehle“ mit einer Taste mcnet-avatar ctl slate ausführen</translation>
        </message>
        <message>
            <source>make room on the disk</source>
            <translation>schaffen Sie Platz auf dem Datenträger</translation>
        </message>
        <message>
            <source>make room: what you may use of the disk is used up</source>
            <translation>schaffen Sie Platz: Ihr Kontingent auf dem Datenträger ist aufgebraucht</translation>
        </message>
        <message>
            <source>matte</source>
            <translation>Freistellmaske</translation>
        </message>
        <message>
            <source>measuring</source>
            <translation>Messung</translation>
        </message>
        <message>
            <source>measuring…</source>
            <translation>Messung läuft …</translation>
        </message>
        <message>
            <source>model</source>
            <translation>Modell</translation>
        </message>
        <message>
            <source>model to sinks</source>
            <translation>Modell zur Ausgabe</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the keypoints of this frame: use precision fp32 or another model; the frame is not shown</source>
            <translation>das Modell {model} lieferte NaN für die Schlüsselpunkte dieses Bildes: Verwenden Sie die Genauigkeit fp32 oder ein anderes Modell; das Bild wird nicht gezeigt</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the {what}: use precision fp32 or another model</source>
            <translation>das Modell {model} lieferte NaN ({what}): Verwenden Sie die Genauigkeit fp32 oder ein anderes Modell</translation>
        </message>
        <message>
            <source>model {model} gave NaN or infinite values for this frame, expected colours in [0, 1]: use precision fp32 or another model; the frame is not shown</source>
            <translation>das Modell {model} lieferte für dieses Bild NaN oder unendliche Werte, erwartet werden Farben in [0, 1]: Verwenden Sie die Genauigkeit fp32 oder ein anderes Modell; das Bild wird nicht gezeigt</translation>
        </message>
        <message>
            <source>model {name}</source>
            <translation>das Modell {name}</translation>
        </message>
        <message>
            <source>mouth</source>
            <comment>measure</comment>
            <translation>Mund</translation>
        </message>
        <message>
            <source>mps is for Apple's GPUs, and this is {system}</source>
            <translation>mps ist für Apple-GPUs, und dies ist {system}</translation>
        </message>
        <message>
            <source>ms</source>
            <translation>ms</translation>
        </message>
        <message>
            <source>name of the PipeWire camera: got {name}, expected 1 to {longest} printable characters</source>
            <translation>Name der PipeWire-Kamera: {name}, erwartet werden 1 bis {longest} druckbare Zeichen</translation>
        </message>
        <message>
            <source>needs a hand</source>
            <translation>braucht Hilfe</translation>
        </message>
        <message>
            <source>network camera {address}</source>
            <translation>Netzwerkkamera {address}</translation>
        </message>
        <message>
            <source>neutral face, any direction</source>
            <translation>neutrales Gesicht, Richtung gleich</translation>
        </message>
        <message>
            <source>no camera at {path}: got nothing there; {advice}</source>
            <translation>keine Kamera unter {path}: Dort ist nichts; {advice}</translation>
        </message>
        <message>
            <source>no camera picture</source>
            <translation>kein Kamerabild</translation>
        </message>
        <message>
            <source>no camera was found: plug one in, or use a video file</source>
            <translation>es wurde keine Kamera gefunden: Schließen Sie eine an, oder verwenden Sie eine Videodatei</translation>
        </message>
        <message>
            <source>no camera yet: choose one under Camera</source>
            <translation>noch keine Kamera: Wählen Sie eine unter „Kamera“</translation>
        </message>
        <message>
            <source>no configuration is named {name}; the named ones are {named}</source>
            <translation>keine Konfiguration heißt {name}; es gibt {named}</translation>
        </message>
        <message>
            <source>no face in {name}: got none that looks towards the camera; take another picture, larger or from the front, or turn this one upright</source>
            <translation>kein Gesicht in {name}: Keines schaut zur Kamera; nehmen Sie ein anderes Bild, größer oder von vorn, oder drehen Sie dieses aufrecht</translation>
        </message>
        <message>
            <source>no face is shown</source>
            <translation>es wird kein Gesicht gezeigt</translation>
        </message>
        <message>
            <source>no face was found in it</source>
            <translation>es wurde kein Gesicht darin gefunden</translation>
        </message>
        <message>
            <source>no face was found in this portrait</source>
            <translation>in diesem Porträt wurde kein Gesicht gefunden</translation>
        </message>
        <message>
            <source>no face was seen while the motion was recorded: there is no file {path}</source>
            <translation>während die Bewegung aufgenommen wurde, war kein Gesicht zu sehen: Es gibt keine Datei {path}</translation>
        </message>
        <message>
            <source>no face was seen, so that nothing was calibrated: look into the camera, and calibrate again</source>
            <translation>es war kein Gesicht zu sehen, deshalb wurde nichts kalibriert: Schauen Sie in die Kamera, und kalibrieren Sie noch einmal</translation>
        </message>
        <message>
            <source>no face: the avatar rests</source>
            <translation>kein Gesicht: Der Avatar ruht</translation>
        </message>
        <message>
            <source>no file is chosen; choose a picture or a video</source>
            <translation>es ist keine Datei gewählt; wählen Sie ein Bild oder ein Video</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded: it is damaged or cut short; export it again</source>
            <translation>kein Bild von {path} kann decodiert werden: Es ist beschädigt oder abgeschnitten; exportieren Sie es erneut</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded; choose another video</source>
            <translation>kein Bild von {path} kann decodiert werden; wählen Sie ein anderes Video</translation>
        </message>
        <message>
            <source>no model {name_or_path}: got neither a file, a folder nor a bundled name, expected a .safetensors or .pth.tar file or a model's folder (check the path) or one of: {bundled}</source>
            <translation>kein Modell {name_or_path}: Es ist weder Datei noch Ordner noch ein mitgelieferter Name, erwartet wird eine Datei .safetensors oder .pth.tar oder der Ordner eines Modells (prüfen Sie den Pfad) oder eines von: {bundled}</translation>
        </message>
        <message>
            <source>no motion file {path}: there is no such file</source>
            <translation>keine Bewegungsdatei {path}: Eine solche Datei gibt es nicht</translation>
        </message>
        <message>
            <source>no permission for {path} ({name}): run `sudo usermod -aG video $USER`, then log out and in again</source>
            <translation>keine Berechtigung für {path} ({name}): Führen Sie `sudo usermod -aG video $USER` aus, und melden Sie sich ab und wieder an</translation>
        </message>
        <message>
            <source>no person is told apart from the background</source>
            <translation>keine Person hebt sich vom Hintergrund ab</translation>
        </message>
        <message>
            <source>no picture at {path}: check the path</source>
            <translation>kein Bild unter {path}: Prüfen Sie den Pfad</translation>
        </message>
        <message>
            <source>no picture track</source>
            <translation>keine Bildspur</translation>
        </message>
        <message>
            <source>no portrait can be used: add another one</source>
            <translation>kein Porträt kann verwendet werden: Fügen Sie ein anderes hinzu</translation>
        </message>
        <message>
            <source>no portrait yet: choose one, or add yours</source>
            <translation>noch kein Porträt: Wählen Sie eines, oder fügen Sie ein eigenes hinzu</translation>
        </message>
        <message>
            <source>no portrait {text}: got neither a file nor a known name ({names}); check the path or the name</source>
            <translation>kein Porträt {text}: Es ist weder eine Datei noch ein bekannter Name ({names}); prüfen Sie Pfad oder Namen</translation>
        </message>
        <message>
            <source>no process could be started for it ({error})</source>
            <translation>dafür konnte kein Prozess gestartet werden ({error})</translation>
        </message>
        <message>
            <source>no video at {path}: check the path</source>
            <translation>kein Video unter {path}: Prüfen Sie den Pfad</translation>
        </message>
        <message>
            <source>none</source>
            <translation>keines</translation>
        </message>
        <message>
            <source>none yet</source>
            <translation>noch keine</translation>
        </message>
        <message>
            <source>not calibrated yet: look into the camera, or press Calibrate</source>
            <translation>noch nicht kalibriert: Schauen Sie in die Kamera, oder drücken Sie „Kalibrieren“</translation>
        </message>
        <message>
            <source>not needed in absolute motion</source>
            <translation>bei absoluter Bewegung nicht nötig</translation>
        </message>
        <message>
            <source>not stated</source>
            <translation>nicht angegeben</translation>
        </message>
        <message>
            <source>nothing</source>
            <translation>nichts</translation>
        </message>
        <message>
            <source>nothing here runs model {model}: {reasons}; is another program in the way?</source>
            <translation>nichts hier kann das Modell {model} ausführen: {reasons}; ist ein anderes Programm im Weg?</translation>
        </message>
        <message>
            <source>nothing is there</source>
            <translation>es ist nichts da</translation>
        </message>
        <message>
            <source>nothing of it could be kept</source>
            <translation>nichts davon konnte erhalten werden</translation>
        </message>
        <message>
            <source>nothing yet</source>
            <translation>noch nichts</translation>
        </message>
        <message>
            <source>of unknown version</source>
            <translation>unbekannter Version</translation>
        </message>
        <message>
            <source>on Debian or Ubuntu: apt-get install libpulse0</source>
            <translation>unter Debian oder Ubuntu: apt-get install libpulse0</translation>
        </message>
        <message>
            <source>only sound</source>
            <translation>nur Ton</translation>
        </message>
        <message>
            <source>only you see this</source>
            <translation>nur Sie sehen das</translation>
        </message>
        <message>
            <source>open your eyes</source>
            <translation>öffnen Sie die Augen</translation>
        </message>
        <message>
            <source>open your mouth as in the portrait</source>
            <translation>öffnen Sie den Mund wie im Porträt</translation>
        </message>
        <message>
            <source>openvino cannot be used: {failure}</source>
            <translation>openvino kann nicht verwendet werden: {failure}</translation>
        </message>
        <message>
            <source>output</source>
            <translation>Ausgabe</translation>
        </message>
        <message>
            <source>part of the face is cut off</source>
            <translation>ein Teil des Gesichts ist abgeschnitten</translation>
        </message>
        <message>
            <source>pictures in a codec that cannot be decoded</source>
            <translation>Bilder in einem Codec, der nicht decodiert werden kann</translation>
        </message>
        <message>
            <source>pine</source>
            <translation>Kiefer</translation>
        </message>
        <message>
            <source>places: got {given} of shape {got}, expected {pictures} of shape {shape}, finite numbers</source>
            <translation>places: {given} der Form {got} erhalten, {pictures} der Form {shape} erwartet, endliche Zahlen</translation>
        </message>
        <message>
            <source>plug it in, or choose another: {there}</source>
            <translation>schließen Sie sie an, oder wählen Sie eine andere: {there}</translation>
        </message>
        <message>
            <source>plug one in; no camera is there at all</source>
            <translation>schließen Sie eine an; es ist gar keine Kamera da</translation>
        </message>
        <message>
            <source>portrait</source>
            <translation>Porträt</translation>
        </message>
        <message>
            <source>portrait angle_deg: got {angle_deg}, expected a number</source>
            <translation>Porträt angle_deg: {angle_deg}, erwartet wird eine Zahl</translation>
        </message>
        <message>
            <source>portrait box: got {box}, expected three numbers, the last of them above 0</source>
            <translation>Porträt box: {box}, erwartet werden drei Zahlen, die letzte davon über 0</translation>
        </message>
        <message>
            <source>precision: got 'int8', but {lack}</source>
            <translation>Genauigkeit: „int8“ war verlangt, aber {lack}</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32 or fp16 there</source>
            <translation>Genauigkeit: bf16 war auf {device} verlangt, erwartet wird dort fp32 oder fp16</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32, fp16 or int8 there</source>
            <translation>Genauigkeit: bf16 auf {device} erhalten, dort fp32, fp16 oder int8 erwartet</translation>
        </message>
        <message>
            <source>precision: got fp16 on the CPU, expected fp32, bf16 or int8 there (fp16 is for GPUs)</source>
            <translation>Genauigkeit: fp16 auf der CPU erhalten, dort fp32, bf16 oder int8 erwartet (fp16 ist für GPUs)</translation>
        </message>
        <message>
            <source>precision: got {precision}, expected one of {allowed}</source>
            <translation>Genauigkeit: {precision} war verlangt, erwartet wird eine von {allowed}</translation>
        </message>
        <message>
            <source>preset: got {name} for a name, expected 1 to {most} characters</source>
            <translation>Voreinstellung: {name} als Name, erwartet werden 1 bis {most} Zeichen</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of your own: {own}</source>
            <translation>Voreinstellung: {name}, erwartet wird eine Ihrer eigenen: {own}</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of {names}</source>
            <translation>Voreinstellung: {name}, erwartet wird eine von {names}</translation>
        </message>
        <message>
            <source>preset: there are {count} already, expected no more: delete one first</source>
            <translation>Voreinstellung: Es gibt schon {count}, mehr sind nicht vorgesehen: Löschen Sie zuerst eine</translation>
        </message>
        <message>
            <source>preset: {name} is there already: choose another name, or delete it first</source>
            <translation>Voreinstellung: {name} gibt es schon: Wählen Sie einen anderen Namen, oder löschen Sie sie zuerst</translation>
        </message>
        <message>
            <source>preset: {name} stays as it is: choose another name</source>
            <translation>Voreinstellung: {name} bleibt, wie sie ist: Wählen Sie einen anderen Namen</translation>
        </message>
        <message>
            <source>presets</source>
            <translation>Voreinstellungen</translation>
        </message>
        <message>
            <source>process {name}</source>
            <translation>Prozess {name}</translation>
        </message>
        <message>
            <source>reading the portrait…</source>
            <translation>Porträt wird gelesen …</translation>
        </message>
        <message>
            <source>recorded frames are the fastest on GPUs</source>
            <translation>aufgezeichnete Bilder sind auf GPUs am schnellsten</translation>
        </message>
        <message>
            <source>recording {path}: got a picture of {got}, expected {shape}</source>
            <translation>Aufnahme {path}: Das Bild ist {got}, erwartet wird {shape}</translation>
        </message>
        <message>
            <source>render</source>
            <translation>Rendern</translation>
        </message>
        <message>
            <source>retouch</source>
            <translation>Retusche</translation>
        </message>
        <message>
            <source>row {number}: got {got}, expected a portrait with its key</source>
            <translation>Zeile {number}: {got}, erwartet wird ein Porträt mit seinem Schlüssel (key)</translation>
        </message>
        <message>
            <source>row {number}: there is no picture {got}</source>
            <translation>Zeile {number}: es gibt kein Bild {got}</translation>
        </message>
        <message>
            <source>row {number}: {error}</source>
            <translation>Zeile {number}: {error}</translation>
        </message>
        <message>
            <source>runs on</source>
            <translation>läuft auf</translation>
        </message>
        <message>
            <source>see that its app is in front, the phone awake, and both in the same network</source>
            <translation>sehen Sie nach, ob die App vorn und das Telefon wach ist und beide im selben Netzwerk sind</translation>
        </message>
        <message>
            <source>see whether the disk is slow</source>
            <translation>sehen Sie nach, ob der Datenträger langsam ist</translation>
        </message>
        <message>
            <source>send</source>
            <translation>Senden</translation>
        </message>
        <message>
            <source>setting</source>
            <translation>Einstellung</translation>
        </message>
        <message>
            <source>setting background_colour: got {colour}, expected #rrggbb</source>
            <translation>Einstellung background_colour: {colour}, erwartet wird #rrggbb</translation>
        </message>
        <message>
            <source>setting inspector_views: got {views}, expected {least_views} to {most_views} different ones</source>
            <translation>Einstellung inspector_views: {views}, erwartet werden {least_views} bis {most_views} verschiedene</translation>
        </message>
        <message>
            <source>setting slate_text: got {got} characters, expected at most {longest_slate_text}</source>
            <translation>Einstellung slate_text: {got} Zeichen, erwartet werden höchstens {longest_slate_text}</translation>
        </message>
        <message>
            <source>setting slate_text: the slate cannot show {characters}; leave that out, or have a picture that shows it as slate_image</source>
            <translation>Einstellung slate_text: Das Pausenbild kann {characters} nicht darstellen; lassen Sie das weg, oder geben Sie als slate_image ein Bild an, das es zeigt</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected an even number</source>
            <translation>Einstellung {name}: {value}, erwartet wird eine gerade Zahl</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected {low} to {high}</source>
            <translation>Einstellung {name}: {value}, erwartet wird {low} bis {high}</translation>
        </message>
        <message>
            <source>settings</source>
            <translation>Einstellungen</translation>
        </message>
        <message>
            <source>several people are in it; the largest face is used</source>
            <translation>es sind mehrere Personen darauf; das größte Gesicht wird verwendet</translation>
        </message>
        <message>
            <source>show your face to the camera</source>
            <translation>zeigen Sie der Kamera Ihr Gesicht</translation>
        </message>
        <message>
            <source>signing needs room for a second copy: got {free_mb:.0f} MB, expected {needed_mb:.0f} MB; make room on the disk</source>
            <translation>zum Signieren ist Platz für eine zweite Kopie nötig: {free_mb:.0f} MB sind frei, erwartet werden {needed_mb:.0f} MB; schaffen Sie Platz auf dem Datenträger</translation>
        </message>
        <message>
            <source>skin, teeth and shut lids cannot be drawn for this portrait: {error}</source>
            <translation>Haut, Zähne und geschlossene Lider können für dieses Porträt nicht gezeichnet werden: {error}</translation>
        </message>
        <message>
            <source>slate grey</source>
            <translation>Schiefergrau</translation>
        </message>
        <message>
            <source>slate until the camera is back</source>
            <translation>Pausenbild, bis die Kamera zurück ist</translation>
        </message>
        <message>
            <source>slate until your face is back</source>
            <translation>Pausenbild, bis Ihr Gesicht zurück ist</translation>
        </message>
        <message>
            <source>some of {sizes_px}, in rising order</source>
            <translation>einige aus {sizes_px}, aufsteigend</translation>
        </message>
        <message>
            <source>something else or a damaged file</source>
            <translation>etwas anderes oder eine beschädigte Datei</translation>
        </message>
        <message>
            <source>starting…</source>
            <translation>startet …</translation>
        </message>
        <message>
            <source>surroundings</source>
            <translation>Umgebung</translation>
        </message>
        <message>
            <source>the Apple GPU</source>
            <translation>die Apple-GPU</translation>
        </message>
        <message>
            <source>the GPU is not used: {failure}</source>
            <translation>die GPU wird nicht verwendet: {failure}</translation>
        </message>
        <message>
            <source>the GPU that torch found</source>
            <translation>die GPU, die torch gefunden hat</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be made: {error}</source>
            <translation>die PipeWire-Kamera kann nicht angelegt werden: {error}</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be opened: no daemon listens at {socket} ({error}); start it with `systemctl --user start pipewire wireplumber`, or see `mcnet-avatar --doctor`</source>
            <translation>die PipeWire-Kamera kann nicht geöffnet werden: Unter {socket} antwortet kein Dienst ({error}); starten Sie ihn mit `systemctl --user start pipewire wireplumber`, oder siehe `mcnet-avatar --doctor`</translation>
        </message>
        <message>
            <source>the PipeWire camera is not open; open it first</source>
            <translation>die PipeWire-Kamera ist nicht geöffnet; öffnen Sie sie zuerst</translation>
        </message>
        <message>
            <source>the PipeWire camera is open already ({detail}); close it first</source>
            <translation>die PipeWire-Kamera ist schon geöffnet ({detail}); schließen Sie sie zuerst</translation>
        </message>
        <message>
            <source>the X server does not answer for a key: {failure}</source>
            <translation>der X-Server antwortet auf die Bitte um die Taste nicht: {failure}</translation>
        </message>
        <message>
            <source>the X server gives the key to this app</source>
            <translation>der X-Server gibt dieser App die Taste</translation>
        </message>
        <message>
            <source>the X server has ended: {failure}</source>
            <translation>der X-Server hat geendet: {failure}</translation>
        </message>
        <message>
            <source>the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)</source>
            <translation>die von den Autoren veröffentlichten Gewichte sind nicht enthalten: Laden Sie ihren Checkpoint herunter, und geben Sie seinen Pfad an (.pth.tar)</translation>
        </message>
        <message>
            <source>the background is to be a picture, but none is chosen: choose a file, or another background</source>
            <translation>der Hintergrund soll ein Bild sein, aber keines ist gewählt: Wählen Sie eine Datei oder einen anderen Hintergrund</translation>
        </message>
        <message>
            <source>the background picture</source>
            <translation>das Hintergrundbild</translation>
        </message>
        <message>
            <source>the background video cannot be used: {error}</source>
            <translation>das Hintergrundvideo kann nicht verwendet werden: {error}</translation>
        </message>
        <message>
            <source>the bundle has no torch (an installation by pip has)</source>
            <translation>das Programmpaket enthält kein torch (eine Installation mit pip schon)</translation>
        </message>
        <message>
            <source>the calibration is under way</source>
            <translation>die Kalibrierung läuft</translation>
        </message>
        <message>
            <source>the call sees the slate</source>
            <translation>der Anruf sieht das Pausenbild</translation>
        </message>
        <message>
            <source>the camera cannot be used: choose another one</source>
            <translation>die Kamera kann nicht verwendet werden: Wählen Sie eine andere</translation>
        </message>
        <message>
            <source>the camera gives no frames: plug it in again, or choose another one</source>
            <translation>die Kamera liefert keine Bilder: Schließen Sie sie wieder an, oder wählen Sie eine andere</translation>
        </message>
        <message>
            <source>the camera is being opened</source>
            <translation>die Kamera wird geöffnet</translation>
        </message>
        <message>
            <source>the camera's frames have another size now</source>
            <translation>die Bilder der Kamera haben jetzt eine andere Größe</translation>
        </message>
        <message>
            <source>the certificate in {path} is valid from {begin} to {end} and not now: get a new one</source>
            <translation>das Zertifikat in {path} gilt von {begin} bis {end} und nicht jetzt: Besorgen Sie ein neues</translation>
        </message>
        <message>
            <source>the desktop did not give the key: allow it in its settings for shortcuts</source>
            <translation>der Desktop hat die Taste nicht gegeben: Erlauben Sie sie in seinen Einstellungen für Tastenkürzel</translation>
        </message>
        <message>
            <source>the desktop has taken the key back</source>
            <translation>der Desktop hat die Taste zurückgenommen</translation>
        </message>
        <message>
            <source>the desktop is asked for the key, and may ask you</source>
            <translation>der Desktop wird um die Taste gebeten und fragt vielleicht Sie</translation>
        </message>
        <message>
            <source>the desktop's portal does not answer</source>
            <translation>das Portal des Desktops antwortet nicht</translation>
        </message>
        <message>
            <source>the desktop's portal has refused the key: bind mcnet-avatar ctl slate there</source>
            <translation>das Portal des Desktops hat die Taste verweigert: Belegen Sie dort eine mit mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>the engine knows those of NVIDIA, Intel and Apple</source>
            <translation>die Engine kennt die von NVIDIA, Intel und Apple</translation>
        </message>
        <message>
            <source>the eyes are hardly open</source>
            <translation>die Augen sind kaum offen</translation>
        </message>
        <message>
            <source>the face is close to the picture's border</source>
            <translation>das Gesicht ist nah am Bildrand</translation>
        </message>
        <message>
            <source>the face is dark: take a picture in more light</source>
            <translation>das Gesicht ist dunkel: Nehmen Sie ein Bild bei mehr Licht auf</translation>
        </message>
        <message>
            <source>the face is over-exposed: take a picture in less light</source>
            <translation>das Gesicht ist überbelichtet: Nehmen Sie ein Bild bei weniger Licht auf</translation>
        </message>
        <message>
            <source>the face is small: use a larger picture</source>
            <translation>das Gesicht ist klein: Verwenden Sie ein größeres Bild</translation>
        </message>
        <message>
            <source>the figures lack {error}, or have something else in its place: expected what `mcnet-train evaluate --json` wrote</source>
            <translation>in den Messwerten fehlt {error}, oder etwas anderes steht an dieser Stelle: erwartet wird, was `mcnet-train evaluate --json` schrieb</translation>
        </message>
        <message>
            <source>the fine detail of this portrait cannot be shown: {error}</source>
            <translation>die feinen Details dieses Porträts können nicht gezeigt werden: {error}</translation>
        </message>
        <message>
            <source>the folder {path} holds no picture: expected files such as PNG, JPEG or HEIC</source>
            <translation>der Ordner {path} enthält kein Bild: erwartet werden Dateien wie PNG, JPEG oder HEIC</translation>
        </message>
        <message>
            <source>the head is tilted</source>
            <translation>der Kopf ist geneigt</translation>
        </message>
        <message>
            <source>the head is turned to the side</source>
            <translation>der Kopf ist zur Seite gedreht</translation>
        </message>
        <message>
            <source>the key was lost {n} times in a row ({error}): choose it again</source>
            <translation>die Taste ging {n}-mal nacheinander verloren ({error}): Wählen Sie sie noch einmal</translation>
        </message>
        <message>
            <source>the key was not given in the desktop's dialog: choose it again to be asked</source>
            <translation>die Taste wurde im Dialog des Desktops nicht gegeben: Wählen Sie sie noch einmal, um gefragt zu werden</translation>
        </message>
        <message>
            <source>the microphone fails: {error}</source>
            <translation>das Mikrofon ist ausgefallen: {error}</translation>
        </message>
        <message>
            <source>the microphone gives no sound: plug it in again, or choose another one</source>
            <translation>das Mikrofon liefert keinen Ton: Schließen Sie es wieder an, oder wählen Sie ein anderes</translation>
        </message>
        <message>
            <source>the microphone is not there: plug it in, or choose another one</source>
            <translation>das Mikrofon ist nicht da: Schließen Sie es an, oder wählen Sie ein anderes</translation>
        </message>
        <message>
            <source>the microphone {description} cannot be opened ({name}): close what else uses it, or choose another one</source>
            <translation>das Mikrofon {description} kann nicht geöffnet werden ({name}): Schließen Sie, was es sonst benutzt, oder wählen Sie ein anderes</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound any more: plug it in again, close what else uses it, or choose another one</source>
            <translation>das Mikrofon {name} liefert keinen Ton mehr: Schließen Sie es wieder an, schließen Sie, was es sonst benutzt, oder wählen Sie ein anderes</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound: plug it in again, or choose another one</source>
            <translation>das Mikrofon {name} liefert keinen Ton: Schließen Sie es wieder an, oder wählen Sie ein anderes</translation>
        </message>
        <message>
            <source>the model</source>
            <translation>das Modell</translation>
        </message>
        <message>
            <source>the model cannot be loaded: {reason}</source>
            <translation>das Modell kann nicht geladen werden: {reason}</translation>
        </message>
        <message>
            <source>the model gives no pictures: wait, or press Start again</source>
            <translation>das Modell liefert keine Bilder: Warten Sie, oder drücken Sie „Neu starten“</translation>
        </message>
        <message>
            <source>the model has given no picture for {seconds:g} s: wait, or start again</source>
            <translation>das Modell hat seit {seconds:g} s kein Bild geliefert: Warten Sie, oder starten Sie neu</translation>
        </message>
        <message>
            <source>the model is loading</source>
            <translation>das Modell wird geladen</translation>
        </message>
        <message>
            <source>the mouth is open: teeth and lips will stretch</source>
            <translation>der Mund ist offen: Zähne und Lippen werden sich verzerren</translation>
        </message>
        <message>
            <source>the network {path} is not the bundled one: got SHA-256 {found}..., expected {expected}...; reinstall the package</source>
            <translation>das Netz {path} ist nicht das mitgelieferte: Sein SHA-256 ist {found}..., erwartet wird {expected}...; installieren Sie das Paket neu</translation>
        </message>
        <message>
            <source>the old file could not be moved ({error})</source>
            <translation>die alte Datei konnte nicht verschoben werden ({error})</translation>
        </message>
        <message>
            <source>the old file is kept as {aside}</source>
            <translation>die alte Datei ist als {aside} aufgehoben</translation>
        </message>
        <message>
            <source>the output has failed: {reason}</source>
            <translation>die Ausgabe ist ausgefallen: {reason}</translation>
        </message>
        <message>
            <source>the package c2pa-python cannot be used ({error}); install the app again, or switch Content Credentials off</source>
            <translation>das Paket c2pa-python kann nicht verwendet werden ({error}); installieren Sie die App neu, oder schalten Sie die Inhaltsnachweise aus</translation>
        </message>
        <message>
            <source>the package cryptography cannot be used ({error}); install the app again</source>
            <translation>das Paket cryptography kann nicht verwendet werden ({error}); installieren Sie die App neu</translation>
        </message>
        <message>
            <source>the package {module} is missing in the bundle (install the app again)</source>
            <translation>das Paket {module} fehlt im Programmpaket (installieren Sie die App neu)</translation>
        </message>
        <message>
            <source>the package {module} is not installed ({command})</source>
            <translation>das Paket {module} ist nicht installiert ({command})</translation>
        </message>
        <message>
            <source>the person cannot be cut out of this portrait: {error}</source>
            <translation>die Person kann aus diesem Porträt nicht freigestellt werden: {error}</translation>
        </message>
        <message>
            <source>the picture is soft</source>
            <translation>das Bild ist unscharf</translation>
        </message>
        <message>
            <source>the picture {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>das Bild {path} ist zu groß: {width} x {height}, erwartet werden höchstens {millions} Millionen Pixel; verkleinern Sie es</translation>
        </message>
        <message>
            <source>the picture {path} is too small: got {width} x {height}, expected at least {least_px} pixels on each side; use a larger one</source>
            <translation>das Bild {path} ist zu klein: {width} x {height}, erwartet werden mindestens {least_px} Pixel je Seite; verwenden Sie ein größeres</translation>
        </message>
        <message>
            <source>the pictures of {path} differ in size: got {own_width} x {own_height} in {name}, expected {width} x {height} as in {first}</source>
            <translation>die Bilder von {path} sind verschieden groß: {own_width} x {own_height} in {name}, erwartet wird {width} x {height} wie in {first}</translation>
        </message>
        <message>
            <source>the portrait is being prepared</source>
            <translation>das Porträt wird vorbereitet</translation>
        </message>
        <message>
            <source>the private key {key} is not that of the first certificate in {certificates}: give the pair that belongs together, the signer's certificate first</source>
            <translation>der private Schlüssel {key} gehört nicht zum ersten Zertifikat in {certificates}: Geben Sie das zusammengehörige Paar an, das Zertifikat des Unterzeichners zuerst</translation>
        </message>
        <message>
            <source>the private key {path} has a passphrase, and nobody is there to type it: expected one without</source>
            <translation>der private Schlüssel {path} hat eine Passphrase, und niemand ist da, sie einzugeben: Erwartet wird einer ohne</translation>
        </message>
        <message>
            <source>the private key {path} is of a kind that C2PA does not take: expected an elliptic curve (P-256, P-384 or P-521), Ed25519, or RSA of at least {bits} bits</source>
            <translation>der private Schlüssel {path} ist von einer Art, die C2PA nicht annimmt: Erwartet wird eine elliptische Kurve (P-256, P-384 oder P-521), Ed25519 oder RSA mit mindestens {bits} Bit</translation>
        </message>
        <message>
            <source>the process that looks inside the network has ended, perhaps for want of memory; close the view and open it again</source>
            <translation>der Prozess, der in das Netz schaut, hat geendet, vielleicht mangels Speicher; schließen Sie die Ansicht, und öffnen Sie sie wieder</translation>
        </message>
        <message>
            <source>the recording is not open; open it first</source>
            <translation>die Aufnahme ist nicht geöffnet; öffnen Sie sie zuerst</translation>
        </message>
        <message>
            <source>the recording {detail} is going on already; stop it first</source>
            <translation>die Aufnahme {detail} läuft schon; beenden Sie sie zuerst</translation>
        </message>
        <message>
            <source>the recording {path} cannot go on: {cause}; {kept}</source>
            <translation>die Aufnahme {path} kann nicht weitergehen: {cause}; {kept}</translation>
        </message>
        <message>
            <source>the recording {path} failed: {reason}; {kept}</source>
            <translation>die Aufnahme {path} ist fehlgeschlagen: {reason}; {kept}</translation>
        </message>
        <message>
            <source>the session's message bus does not answer: {error}</source>
            <translation>der Nachrichtenbus der Sitzung antwortet nicht: {error}</translation>
        </message>
        <message>
            <source>the session's message bus has ended: {error}</source>
            <translation>der Nachrichtenbus der Sitzung hat geendet: {error}</translation>
        </message>
        <message>
            <source>the settings ask for detected keypoints, and this needs measured ones</source>
            <translation>die Einstellungen verlangen erkannte Schlüsselpunkte, und hierfür braucht es gemessene</translation>
        </message>
        <message>
            <source>the signed copy does not hold when it is read back ({problems}), so that it was not kept</source>
            <translation>die signierte Kopie hält beim Nachlesen nicht stand ({problems}), deshalb wurde sie nicht behalten</translation>
        </message>
        <message>
            <source>the signed copy does not show the same pictures, so that it was not kept</source>
            <translation>die signierte Kopie zeigt nicht dieselben Bilder, deshalb wurde sie nicht behalten</translation>
        </message>
        <message>
            <source>the signed copy says something else, so that it was not kept</source>
            <translation>die signierte Kopie sagt etwas anderes, deshalb wurde sie nicht behalten</translation>
        </message>
        <message>
            <source>the slate's picture</source>
            <translation>das Bild des Pausenbilds</translation>
        </message>
        <message>
            <source>the system forbids the camera: allow it in System Settings, Privacy</source>
            <translation>das System verbietet die Kamera: Erlauben Sie sie in den Systemeinstellungen unter „Datenschutz“</translation>
        </message>
        <message>
            <source>the system's privacy settings keep the microphone from this app: allow it there</source>
            <translation>die Datenschutzeinstellungen des Systems verwehren dieser App das Mikrofon: Erlauben Sie es dort</translation>
        </message>
        <message>
            <source>the system's sound cannot be used: what asks for it has crashed; start it again</source>
            <translation>der Ton des Systems kann nicht verwendet werden: Was danach fragt, ist abgestürzt; starten Sie es neu</translation>
        </message>
        <message>
            <source>the system's sound did not answer within {seconds:g} s: start it again</source>
            <translation>der Ton des Systems hat innerhalb von {seconds:g} s nicht geantwortet: Starten Sie ihn neu</translation>
        </message>
        <message>
            <source>the video {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>das Video {path} ist zu groß: {width} x {height}, erwartet werden höchstens {millions} Millionen Pixel; verkleinern Sie es</translation>
        </message>
        <message>
            <source>the view into the network is the plain network's, which is torch's, and {lack}</source>
            <translation>der Blick in das Netz zeigt das einfache Netz, das torch braucht, und {lack}</translation>
        </message>
        <message>
            <source>the view into the network was closed; open it again</source>
            <translation>der Blick in das Netz wurde geschlossen; öffnen Sie ihn wieder</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: see the advice below its switch</source>
            <translation>die virtuelle Kamera kann nicht geöffnet werden: siehe den Rat unter ihrem Schalter</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: {said}; close programs that may write to it, and try again</source>
            <translation>die virtuelle Kamera kann nicht geöffnet werden: {said}; schließen Sie Programme, die auf sie schreiben können, und versuchen Sie es erneut</translation>
        </message>
        <message>
            <source>the virtual camera cannot be used: pyvirtualcam is not there ({error}); install it with `pip install pyvirtualcam`</source>
            <translation>die virtuelle Kamera kann nicht verwendet werden: pyvirtualcam ist nicht da ({error}); installieren Sie es mit `pip install pyvirtualcam`</translation>
        </message>
        <message>
            <source>the virtual camera is being opened</source>
            <translation>die virtuelle Kamera wird geöffnet</translation>
        </message>
        <message>
            <source>the virtual camera is being opened again</source>
            <translation>die virtuelle Kamera wird erneut geöffnet</translation>
        </message>
        <message>
            <source>the virtual camera is not open; open it first</source>
            <translation>die virtuelle Kamera ist nicht geöffnet; öffnen Sie sie zuerst</translation>
        </message>
        <message>
            <source>the virtual camera is off: switch it on for a call</source>
            <translation>die virtuelle Kamera ist aus: Schalten Sie sie für einen Anruf ein</translation>
        </message>
        <message>
            <source>the virtual camera is open already ({detail}); close it first</source>
            <translation>die virtuelle Kamera ist schon geöffnet ({detail}); schließen Sie sie zuerst</translation>
        </message>
        <message>
            <source>the virtual camera takes no pictures any more: switch it on again</source>
            <translation>die virtuelle Kamera nimmt keine Bilder mehr an: Schalten Sie sie wieder ein</translation>
        </message>
        <message>
            <source>the virtual camera {detail} could not be closed: {error}</source>
            <translation>die virtuelle Kamera {detail} konnte nicht geschlossen werden: {error}</translation>
        </message>
        <message>
            <source>the virtual camera {detail} takes no pictures any more: {error}; open it again</source>
            <translation>die virtuelle Kamera {detail} nimmt keine Bilder mehr an: {error}; öffnen Sie sie wieder</translation>
        </message>
        <message>
            <source>the {stage} has failed: {reason}</source>
            <translation>ein Teil der App ({stage}) ist ausgefallen: {reason}</translation>
        </message>
        <message>
            <source>there is no GPU {index}: torch finds {device_count}</source>
            <translation>es gibt keine GPU {index}: torch findet {device_count}</translation>
        </message>
        <message>
            <source>there is no Intel GPU {index}: OpenVINO finds {n}</source>
            <translation>es gibt keine Intel-GPU {index}: OpenVINO findet {n}</translation>
        </message>
        <message>
            <source>there is no desktop to hear a key on</source>
            <translation>es gibt keinen Desktop, auf dem eine Taste zu hören wäre</translation>
        </message>
        <message>
            <source>there is no file {path}; check the path</source>
            <translation>es gibt keine Datei {path}; prüfen Sie den Pfad</translation>
        </message>
        <message>
            <source>there is no microphone: plug one in, or allow it in the system's settings for sound</source>
            <translation>es gibt kein Mikrofon: Schließen Sie eines an, oder erlauben Sie es in den Toneinstellungen des Systems</translation>
        </message>
        <message>
            <source>this Wayland session has no message bus to ask its desktop by: bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>diese Wayland-Sitzung hat keinen Nachrichtenbus, um ihren Desktop zu fragen: Belegen Sie in den Einstellungen des Desktops eine Taste mit mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>this computer is being measured</source>
            <translation>dieser Computer wird gemessen</translation>
        </message>
        <message>
            <source>this desktop's portal gives no keys to apps ({error}): bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>das Portal dieses Desktops gibt Apps keine Tasten ({error}): Belegen Sie in den Einstellungen des Desktops eine Taste mit mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>this machine shows no GPU that a program may compute with (there is no /dev/dri/renderD*)</source>
            <translation>dieser Computer zeigt keine GPU, mit der ein Programm rechnen darf (es gibt kein /dev/dri/renderD*)</translation>
        </message>
        <message>
            <source>this model's keypoints are not known points of a face</source>
            <translation>die Schlüsselpunkte dieses Modells sind keine bekannten Punkte eines Gesichts</translation>
        </message>
        <message>
            <source>this user has no home folder: set HOME to a folder where the program may keep its files</source>
            <translation>dieser Benutzer hat keinen persönlichen Ordner: setzen Sie HOME auf einen Ordner, in dem das Programm seine Dateien ablegen darf</translation>
        </message>
        <message>
            <source>threads: got {threads}, expected at least 1, or None for all cores</source>
            <translation>Threads: {threads} verlangt, erwartet wird mindestens 1, oder None für alle Kerne</translation>
        </message>
        <message>
            <source>to do</source>
            <translation>zu tun</translation>
        </message>
        <message>
            <source>torch is not installed</source>
            <translation>torch ist nicht installiert</translation>
        </message>
        <message>
            <source>torch lacks something on the Apple GPU that the network needs ({error}): use device cpu, or a newer torch</source>
            <translation>torch fehlt auf der Apple-GPU etwas, das das Netz braucht ({error}): Verwenden Sie das Gerät cpu oder ein neueres torch</translation>
        </message>
        <message>
            <source>torch {version} (for CUDA {cuda}) finds no usable NVIDIA GPU or driver</source>
            <translation>torch {version} (für CUDA {cuda}) findet keine brauchbare NVIDIA-GPU oder keinen Treiber</translation>
        </message>
        <message>
            <source>torch {version} finds no Apple GPU that it can use</source>
            <translation>torch {version} findet keine Apple-GPU, die es verwenden kann</translation>
        </message>
        <message>
            <source>torch {version} has no NVIDIA driver to compute with</source>
            <translation>torch {version} hat keinen NVIDIA-Treiber zum Rechnen</translation>
        </message>
        <message>
            <source>torch {version} is a build without Apple's Metal</source>
            <translation>torch {version} ist ein Build ohne Metal von Apple</translation>
        </message>
        <message>
            <source>torch {version} is a build without CUDA</source>
            <translation>torch {version} ist ein Build ohne CUDA</translation>
        </message>
        <message>
            <source>trying {way}</source>
            <translation>{way} wird probiert</translation>
        </message>
        <message>
            <source>turn your head as in the portrait</source>
            <translation>drehen Sie den Kopf wie im Porträt</translation>
        </message>
        <message>
            <source>unknown config key {prefix}{unknown}; the known ones are {known}</source>
            <translation>unbekannter Konfigurationsschlüssel {prefix}{unknown}; bekannt sind {known}</translation>
        </message>
        <message>
            <source>unknown key {key}</source>
            <translation>unbekannter Schlüssel {key}</translation>
        </message>
        <message>
            <source>unknown {what} {key}</source>
            <translation>unbekannt: {what} {key}</translation>
        </message>
        <message>
            <source>unknown {what} {prefix}{unknown}; the known ones are {kinds}</source>
            <translation>unbekannt: {what} {prefix}{unknown}; bekannt sind {kinds}</translation>
        </message>
        <message>
            <source>unplug it and plug it in again, close other programs that use it</source>
            <translation>ziehen Sie sie ab und stecken Sie sie wieder ein, schließen Sie andere Programme, die sie benutzen</translation>
        </message>
        <message>
            <source>v4l2loopback is loaded, but has no device.</source>
            <translation>v4l2loopback ist geladen, hat aber kein Gerät.</translation>
        </message>
        <message>
            <source>version: got {version}, expected {known}</source>
            <translation>version: {version}, erwartet wird {known}</translation>
        </message>
        <message>
            <source>virtual camera</source>
            <translation>virtuelle Kamera</translation>
        </message>
        <message>
            <source>virtual camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>virtuelle Kamera {detail}: Das Bild ist {shape}, erwartet wird {expected}</translation>
        </message>
        <message>
            <source>virtual camera: got backend {backend}, expected one of {backends}</source>
            <translation>virtuelle Kamera: Das Backend ist {backend}, erwartet wird eines von {backends}</translation>
        </message>
        <message>
            <source>waiting for the weights of the model in use…</source>
            <translation>wartet auf die Gewichte des verwendeten Modells …</translation>
        </message>
        <message>
            <source>warped L1 of copying</source>
            <translation>L1 des Verformten gegenüber Kopieren</translation>
        </message>
        <message>
            <source>warped L1 of copying, of what it learns from</source>
            <translation>L1 des Verformten gegenüber Kopieren, an den Lerndaten</translation>
        </message>
        <message>
            <source>what is around this portrait cannot be shown: {error}</source>
            <translation>was dieses Porträt umgibt, kann nicht gezeigt werden: {error}</translation>
        </message>
        <message>
            <source>what speaks to PipeWire has crashed</source>
            <translation>was mit PipeWire spricht, ist abgestürzt</translation>
        </message>
        <message>
            <source>what {path} says of itself cannot be read: {why}</source>
            <translation>was {path} über sich sagt, kann nicht gelesen werden: {why}</translation>
        </message>
        <message>
            <source>widths of at least {least}</source>
            <translation>Breiten von mindestens {least}</translation>
        </message>
        <message>
            <source>wood</source>
            <translation>Holz</translation>
        </message>
        <message>
            <source>working…</source>
            <translation>arbeitet …</translation>
        </message>
        <message>
            <source>{busy_ms:.0f} ms each</source>
            <translation>je {busy_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{camera} gives a picture of one colour: open its shutter, or switch it on with its key</source>
            <translation>{camera} liefert ein einfarbiges Bild: Öffnen Sie ihre Blende, oder schalten Sie sie mit ihrer Taste ein</translation>
        </message>
        <message>
            <source>{camera} goes on.</source>
            <translation>{camera} läuft weiter.</translation>
        </message>
        <message>
            <source>{changed} changed</source>
            <translation>{changed} geändert</translation>
        </message>
        <message>
            <source>{counts} counts, one for each UpBlock</source>
            <translation>{counts} Anzahlen, eine für jeden UpBlock</translation>
        </message>
        <message>
            <source>{delay_ms:.0f} ms</source>
            <translation>{delay_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{device} ({name}), {why}, in {precision}</source>
            <translation>{device} ({name}), {why}; in {precision}</translation>
        </message>
        <message>
            <source>{device} in {precision} with {backend}</source>
            <translation>{device} in {precision} mit {backend}</translation>
        </message>
        <message>
            <source>{done} of {steps}</source>
            <translation>{done} von {steps}</translation>
        </message>
        <message>
            <source>{error}. Presets of this run are not kept</source>
            <translation>{error}. Voreinstellungen dieses Laufs werden nicht behalten</translation>
        </message>
        <message>
            <source>{error}; it is asked again in {pause_s:g} s</source>
            <translation>{error}; in {pause_s:g} s wird noch einmal gefragt</translation>
        </message>
        <message>
            <source>{error}; until it can be had again, it is asked for from time to time</source>
            <translation>{error}; bis es wieder möglich ist, wird von Zeit zu Zeit gefragt</translation>
        </message>
        <message>
            <source>{file} was not finished within {seconds:g} s: leave its disk connected, and see later if it plays</source>
            <translation>{file} wurde nicht innerhalb von {seconds:g} s fertig: Lassen Sie den Datenträger angeschlossen, und sehen Sie später nach, ob sich die Datei abspielen lässt</translation>
        </message>
        <message>
            <source>{first} and {then}</source>
            <translation>{first} und {then}</translation>
        </message>
        <message>
            <source>{first} or {then}</source>
            <translation>{first} oder {then}</translation>
        </message>
        <message>
            <source>{first}, {then}</source>
            <translation>{first}, {then}</translation>
        </message>
        <message>
            <source>{first}. {then}</source>
            <translation>{first}. {then}</translation>
        </message>
        <message>
            <source>{first}; {then}</source>
            <translation>{first}; {then}</translation>
        </message>
        <message>
            <source>{folder} holds no model: got neither {model_file} nor {latest_file}, expected a folder that `mcnet-train export` wrote, or that of a run that has saved what it learned</source>
            <translation>{folder} enthält kein Modell: weder {model_file} noch {latest_file} ist da, erwartet wird ein Ordner, den `mcnet-train export` schrieb, oder der eines Laufs, der schon gespeichert hat, was er lernte</translation>
        </message>
        <message>
            <source>{found}, while the machine was busy with something else</source>
            <translation>{found}, während der Computer mit anderem beschäftigt war</translation>
        </message>
        <message>
            <source>{fps:.0f} fps</source>
            <translation>{fps:.0f} Bilder/s</translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} frames</source>
            <translation>
                <numerusform>{fps:5.1f} Bilder/s   {n} Bild</numerusform>
                <numerusform>{fps:5.1f} Bilder/s   {n} Bilder</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} pictures</source>
            <translation>
                <numerusform>{fps:5.1f} Bilder/s   {n} Bild</numerusform>
                <numerusform>{fps:5.1f} Bilder/s   {n} Bilder</numerusform>
            </translation>
        </message>
        <message>
            <source>{frame_ms:.3g} ms on {way}</source>
            <translation>{frame_ms:.3g} ms auf {way}</translation>
        </message>
        <message>
            <source>{kept}; {error}</source>
            <translation>{kept}; {error}</translation>
        </message>
        <message>
            <source>{key} shows the slate, whichever window has the focus.</source>
            <translation>{key} zeigt das Pausenbild, welches Fenster auch den Fokus hat.</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected no such key</source>
            <translation>{key}: {got}, erwartet wird kein solcher Eintrag</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected {expected}</source>
            <translation>{key}: {got}, erwartet wird {expected}</translation>
        </message>
        <message>
            <source>{lack}; in a clone, `make setup` installs every package</source>
            <translation>{lack}; in einem Klon installiert `make setup` alle Pakete</translation>
        </message>
        <message>
            <source>{lack}; or switch Content Credentials off</source>
            <translation>{lack}; oder schalten Sie die Inhaltsnachweise aus</translation>
        </message>
        <message>
            <source>{lack}; use device cpu, or another precision</source>
            <translation>{lack}; verwenden Sie das Gerät cpu oder eine andere Genauigkeit</translation>
        </message>
        <message>
            <source>{levels} widths, as the encoder</source>
            <translation>{levels} Breiten wie beim Encoder</translation>
        </message>
        <message>
            <source>{licences} and {more} more</source>
            <translation>{licences} und {more} weitere</translation>
        </message>
        <message>
            <source>{licences}; not stated for some</source>
            <translation>{licences}; für einen Teil nicht angegeben</translation>
        </message>
        <message>
            <source>{measure} {share:.0%}</source>
            <translation>{measure} {share:.0%}</translation>
        </message>
        <message>
            <source>{measure} {value:.2f}</source>
            <translation>{measure} {value:.2f}</translation>
        </message>
        <message>
            <source>{model} animates the portrait now.</source>
            <translation>{model} animiert jetzt das Porträt.</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} goes on.</source>
            <translation>{model} kann nicht verwendet werden: {reason}. {other} läuft weiter.</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} is back.</source>
            <translation>{model} kann nicht verwendet werden: {reason}. {other} ist zurück.</translation>
        </message>
        <message>
            <source>{names}; did you mean {nearest}?</source>
            <translation>{names}; meinten Sie {nearest}?</translation>
        </message>
        <message>
            <source>{name} (key {key})</source>
            <translation>{name} (Taste {key})</translation>
        </message>
        <message>
            <source>{name} (process {pid})</source>
            <translation>{name} (Prozess {pid})</translation>
        </message>
        <message>
            <source>{name} (sm_{major}{minor}) is older than what this torch was built for (sm_{known})</source>
            <translation>{name} (sm_{major}{minor}) ist älter, als dieses torch unterstützt (sm_{known})</translation>
        </message>
        <message>
            <source>{name} came with the app and keeps its name: only your own portraits can be renamed</source>
            <translation>{name} kam mit der App und behält seinen Namen: Nur eigene Porträts können umbenannt werden</translation>
        </message>
        <message>
            <source>{name} came with the app and stays: only your own portraits can be removed</source>
            <translation>{name} kam mit der App und bleibt: Nur eigene Porträts können entfernt werden</translation>
        </message>
        <message>
            <source>{name} cannot be found: no host of that name is known; check the address, or use the number that the app shows</source>
            <translation>{name} kann nicht gefunden werden: Kein Host dieses Namens ist bekannt; prüfen Sie die Adresse, oder verwenden Sie die Nummer, die die App anzeigt</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program</source>
            <translation>{name} kann nicht geöffnet werden: Ein anderes Programm benutzt es, oder es ist nicht erlaubt; schließen Sie jenes Programm</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program; allow it under {place}</source>
            <translation>{name} kann nicht geöffnet werden: Ein anderes Programm benutzt es, oder es ist nicht erlaubt; schließen Sie jenes Programm; erlauben Sie es unter {place}</translation>
        </message>
        <message>
            <source>{name} cannot be opened: {reason}</source>
            <translation>{name} kann nicht geöffnet werden: {reason}</translation>
        </message>
        <message>
            <source>{name} cannot be reached ({cause}): see that its app runs, that both are in the same network, and that the address and its port are right</source>
            <translation>{name} ist nicht zu erreichen ({cause}): Sehen Sie nach, ob die App läuft, beide im selben Netzwerk sind und Adresse und Port stimmen</translation>
        </message>
        <message>
            <source>{name} cannot be used: {problem}; close programs that may use it, or plug it in again</source>
            <translation>{name} kann nicht verwendet werden: {problem}; schließen Sie Programme, die sie benutzen können, oder stecken Sie sie wieder ein</translation>
        </message>
        <message>
            <source>{name} changed its picture from {width_px} x {height_px} to {width} x {height}: it is opened anew</source>
            <translation>{name} hat die Bildgröße von {width_px} x {height_px} auf {width} x {height} geändert: Sie wird neu geöffnet</translation>
        </message>
        <message>
            <source>{name} changed its picture: got {shape}, expected {value}; open it again</source>
            <translation>{name} hat das Bild geändert: {shape}, erwartet wird {value}; öffnen Sie sie wieder</translation>
        </message>
        <message>
            <source>{name} could not be closed: {reason}</source>
            <translation>{name} konnte nicht geschlossen werden: {reason}</translation>
        </message>
        <message>
            <source>{name} could not be finished: {reason}</source>
            <translation>{name} konnte nicht abgeschlossen werden: {reason}</translation>
        </message>
        <message>
            <source>{name} does not answer: got nothing within {seconds:g} s; see that its app runs, and that both are in the same network</source>
            <translation>{name} antwortet nicht: Innerhalb von {seconds:g} s kam nichts; sehen Sie nach, ob die App läuft und beide im selben Netzwerk sind</translation>
        </message>
        <message>
            <source>{name} does not answer: {users} attempts to read it hang in its driver; {remedy}, or choose another camera</source>
            <translation>{name} antwortet nicht: {users} Leseversuche hängen im Treiber; {remedy}, oder wählen Sie eine andere Kamera</translation>
        </message>
        <message>
            <source>{name} does not tell the ranges of its activations: write a file that does (`mcnet convert --int8`)</source>
            <translation>{name} nennt die Wertebereiche nicht: Schreiben Sie eine Datei, die es tut (`mcnet convert --int8`)</translation>
        </message>
        <message>
            <source>{name} ended without a frame</source>
            <translation>{name} endete ohne ein Bild</translation>
        </message>
        <message>
            <source>{name} failed: {error}</source>
            <translation>{name} ist ausgefallen: {error}</translation>
        </message>
        <message>
            <source>{name} failed: {reason}</source>
            <translation>{name} ist ausgefallen: {reason}</translation>
        </message>
        <message>
            <source>{name} gave no frame within {seconds:g} s: {remedy}, or choose another camera</source>
            <translation>{name} hat innerhalb von {seconds:g} s kein Bild geliefert: {remedy}, oder wählen Sie eine andere Kamera</translation>
        </message>
        <message>
            <source>{name} gives no frames any more: unplugged, or taken by another program; plug it in again or close the other program</source>
            <translation>{name} liefert keine Bilder mehr: Sie wurde abgezogen oder von einem anderen Programm übernommen; stecken Sie sie wieder ein, oder schließen Sie das andere Programm</translation>
        </message>
        <message>
            <source>{name} gives no video ({cause}): look in its app for the video's address</source>
            <translation>{name} liefert kein Video ({cause}): Suchen Sie in der App nach der Adresse des Videos</translation>
        </message>
        <message>
            <source>{name} gives no video: got a page or a file; use the address of the video itself, such as {scheme}://{address}{path}</source>
            <translation>{name} liefert kein Video, sondern eine Seite oder Datei; verwenden Sie die Adresse des Videos selbst, etwa {scheme}://{address}{path}</translation>
        </message>
        <message>
            <source>{name} gives no video: got a stream without pictures; look in its app for the video's address</source>
            <translation>{name} liefert kein Video, sondern einen Strom ohne Bilder; suchen Sie in der App nach der Adresse des Videos</translation>
        </message>
        <message>
            <source>{name} gives pictures of {width} x {height}, expected at least {least_px} pixels per side: choose a larger size in its app</source>
            <translation>{name} liefert Bilder von {width} x {height}, erwartet werden mindestens {least_px} Pixel je Seite: Wählen Sie in der App eine größere Auflösung</translation>
        </message>
        <message>
            <source>{name} has closed the connection: see that its app still runs</source>
            <translation>{name} hat die Verbindung geschlossen: Sehen Sie nach, ob die App noch läuft</translation>
        </message>
        <message>
            <source>{name} has ended; plug it in again, or choose another camera</source>
            <translation>{name} hat geendet; stecken Sie sie wieder ein, oder wählen Sie eine andere Kamera</translation>
        </message>
        <message>
            <source>{name} has given no frame for {seconds:g} s; it is opened anew. If that does not help, {remedy}, or choose another camera</source>
            <translation>{name} hat seit {seconds:g} s kein Bild geliefert und wird neu geöffnet. Falls das nicht hilft: {remedy}, oder wählen Sie eine andere Kamera</translation>
        </message>
        <message>
            <source>{name} has given no picture for {seconds:g} s: see that its app is in front, the phone awake, and both in the same network</source>
            <translation>{name} hat seit {seconds:g} s kein Bild geliefert: Sehen Sie nach, ob die App vorn und das Telefon wach ist und beide im selben Netzwerk sind</translation>
        </message>
        <message>
            <source>{name} has given the very same picture for {seconds:g} s: it is frozen and is opened anew. If that does not help, plug it in again</source>
            <translation>{name} liefert seit {seconds:g} s genau dasselbe Bild: Sie ist eingefroren und wird neu geöffnet. Falls das nicht hilft, stecken Sie sie wieder ein</translation>
        </message>
        <message>
            <source>{name} has no video there ({cause}): look in its app for the video's address</source>
            <translation>{name} hat dort kein Video ({cause}): Suchen Sie in der App nach der Adresse des Videos</translation>
        </message>
        <message>
            <source>{name} is a motion file, expected what gives pictures</source>
            <translation>{name} ist eine Bewegungsdatei, erwartet wird etwas, das Bilder liefert</translation>
        </message>
        <message>
            <source>{name} is a recording, expected a live camera: download it, and give the file</source>
            <translation>{name} ist eine Aufzeichnung, erwartet wird eine laufende Kamera: Laden Sie sie herunter, und geben Sie die Datei an</translation>
        </message>
        <message>
            <source>{name} is in use by {users}; close that program</source>
            <translation>{name} wird von {users} benutzt; schließen Sie dieses Programm</translation>
        </message>
        <message>
            <source>{name} is saved, but without Content Credentials: {why}.</source>
            <translation>{name} ist gespeichert, aber ohne Inhaltsnachweise: {why}.</translation>
        </message>
        <message>
            <source>{name} is there, but is not used: {lack}</source>
            <translation>{name} ist da, wird aber nicht verwendet: {lack}</translation>
        </message>
        <message>
            <source>{name} wants another user name or password: give them in the address, as in http://USER:PASSWORD@HOST/video</source>
            <translation>{name} verlangt einen anderen Benutzernamen oder ein anderes Passwort: Geben Sie sie in der Adresse an, wie in http://USER:PASSWORD@HOST/video</translation>
        </message>
        <message>
            <source>{name} was closed; open it again to read on</source>
            <translation>{name} wurde geschlossen; öffnen Sie sie wieder, um weiterzulesen</translation>
        </message>
        <message>
            <source>{name} was taken out of the gallery.</source>
            <translation>{name} wurde aus der Galerie genommen.</translation>
        </message>
        <message>
            <source>{name}, a camera of another kind</source>
            <translation>{name}, eine Kamera anderer Art</translation>
        </message>
        <message>
            <source>{name}, score {score} of 100</source>
            <translation>{name}, {score} von 100 Punkten</translation>
        </message>
        <message>
            <source>{name}, {cores} cores, {threads} threads</source>
            <translation>{name}, {cores} Kerne, {threads} Threads</translation>
        </message>
        <message>
            <source>{name}: got no frame any more, expected a video; was the file changed?</source>
            <translation>{name}: Es kam kein Bild mehr, erwartet wird ein Video; wurde die Datei geändert?</translation>
        </message>
        <message>
            <source>{name}: there is no such camera; {advice}</source>
            <translation>{name}: Eine solche Kamera gibt es nicht; {advice}</translation>
        </message>
        <message>
            <source>{name}: {complaint}</source>
            <translation>{name}: {complaint}</translation>
        </message>
        <message>
            <source>{name}: {text}</source>
            <translation>{name}: {text}</translation>
        </message>
        <message>
            <source>{number} from {hop}</source>
            <translation>{number} von {hop}</translation>
        </message>
        <message>
            <source>{number} more</source>
            <translation>{number} weitere</translation>
        </message>
        <message>
            <source>{number}%</source>
            <comment>percent</comment>
            <translation>{number} %</translation>
        </message>
        <message>
            <source>{p50:.0f} ms in app (p95 {p95:.0f})</source>
            <translation>{p50:.0f} ms in der App (p95 {p95:.0f})</translation>
        </message>
        <message>
            <source>{path} ({name}) is a virtual camera that no program feeds, expected a webcam; choose another</source>
            <translation>{path} ({name}) ist eine virtuelle Kamera, die kein Programm speist, erwartet wird eine Webcam; wählen Sie eine andere</translation>
        </message>
        <message>
            <source>{path} ({name}) is not a capture device, expected a webcam; choose another</source>
            <translation>{path} ({name}) ist kein Aufnahmegerät, erwartet wird eine Webcam; wählen Sie eine andere</translation>
        </message>
        <message>
            <source>{path} cannot be read ({error}); check the path</source>
            <translation>{path} kann nicht gelesen werden ({error}); prüfen Sie den Pfad</translation>
        </message>
        <message>
            <source>{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; get it again</source>
            <translation>{path} kann nicht als Checkpoint gelesen werden: Es ist etwas anderes, abgeschnitten oder beschädigt; beschaffen Sie es neu</translation>
        </message>
        <message>
            <source>{path} cannot be read as a motion file: {error}; copy or record it again</source>
            <translation>{path} kann nicht als Bewegungsdatei gelesen werden: {error}; kopieren oder nehmen Sie sie neu auf</translation>
        </message>
        <message>
            <source>{path} cannot be read: {cause}</source>
            <translation>{path} kann nicht gelesen werden: {cause}</translation>
        </message>
        <message>
            <source>{path} has a header that cannot be used: {error}; a newer version may have written it</source>
            <translation>{path} hat einen Kopf, der nicht verwendet werden kann: {error}; eine neuere Version kann ihn geschrieben haben</translation>
        </message>
        <message>
            <source>{path} has {count} frames, expected at most {most}</source>
            <translation>{path} hat {count} Bilder, erwartet werden höchstens {most}</translation>
        </message>
        <message>
            <source>{path} holds no certificates ({error}); expected PEM, the signer's first</source>
            <translation>{path} enthält keine Zertifikate ({error}); erwartet wird PEM, das des Unterzeichners zuerst</translation>
        </message>
        <message>
            <source>{path} holds no private key ({error}); expected PEM</source>
            <translation>{path} enthält keinen privaten Schlüssel ({error}); erwartet wird PEM</translation>
        </message>
        <message>
            <source>{path} is a damaged motion file: {error}; copy or record it again</source>
            <translation>{path} ist eine beschädigte Bewegungsdatei: {error}; kopieren oder nehmen Sie sie neu auf</translation>
        </message>
        <message>
            <source>{path} is a file of torch's, and {lack}: convert it once where torch is (`mcnet convert {name} model.safetensors --int8`), and use that</source>
            <translation>{path} ist eine Datei von torch, und {lack}: Wandeln Sie sie einmal dort um, wo torch ist (`mcnet convert {name} model.safetensors --int8`), und verwenden Sie das Ergebnis</translation>
        </message>
        <message>
            <source>{path} is a folder, a device or a pipe, and only a file can be used; choose another</source>
            <translation>{path} ist ein Ordner, ein Gerät oder eine Pipe, und nur eine Datei kann verwendet werden; wählen Sie eine andere</translation>
        </message>
        <message>
            <source>{path} is a motion file of version {version}, this program knows versions up to {known}; use a newer one</source>
            <translation>{path} ist eine Bewegungsdatei der Version {version}, dieses Programm kennt Versionen bis {known}; verwenden Sie ein neueres</translation>
        </message>
        <message>
            <source>{path} is cut short: got {size} bytes, expected {end}; get it again</source>
            <translation>{path} ist abgeschnitten: {size} Bytes, erwartet werden {end}; beschaffen Sie es neu</translation>
        </message>
        <message>
            <source>{path} is damaged: its tensors hash to {got}, its header says {content_hash}; get it again</source>
            <translation>{path} ist beschädigt: Die Prüfsumme der Tensoren ist {got}, im Kopf steht {content_hash}; beschaffen Sie es neu</translation>
        </message>
        <message>
            <source>{path} is larger than {most} MB, expected a motion file; take a shorter one</source>
            <translation>{path} ist größer als {most} MB, erwartet wird eine Bewegungsdatei; nehmen Sie eine kürzere</translation>
        </message>
        <message>
            <source>{path} is no MCNet checkpoint: got {found}, expected dicts named {parts}</source>
            <translation>{path} ist kein MCNet-Checkpoint: gefunden: {found}, erwartet: dicts namens {parts}</translation>
        </message>
        <message>
            <source>{path} is no motion file: expected one that --save-motion or the app recorded</source>
            <translation>{path} ist keine Bewegungsdatei: Erwartet wird eine, die --save-motion oder die App aufgenommen hat</translation>
        </message>
        <message>
            <source>{path} is no safetensors file that can be read ({said}): get it again</source>
            <translation>{path} ist keine lesbare safetensors-Datei ({said}): Beschaffen Sie sie neu</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header is no table</source>
            <translation>{path} ist keine safetensors-Datei: Ihr Kopf ist keine Tabelle</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header lists no tensors</source>
            <translation>{path} ist keine safetensors-Datei: Ihr Kopf nennt keine Tensoren</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file ({error}): it may be truncated; get it again</source>
            <translation>{path} ist keine ganze Safetensors-Datei ({error}): Sie ist vielleicht abgeschnitten; holen Sie sie noch einmal</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file: it may be truncated, or something else</source>
            <translation>{path} ist keine vollständige safetensors-Datei: Sie kann abgeschnitten oder etwas anderes sein</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {found} in its header, expected {format}</source>
            <translation>{path} ist kein Modell von uns: Das Format im Kopf ist {found}, erwartet wird {format}</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {got} in its header, expected {format}</source>
            <translation>{path} ist kein Modell von uns: Das Format im Kopf ist {got}, erwartet wird {format}</translation>
        </message>
        <message>
            <source>{path} is refused: besides tensors it holds something that could run code when it is read ({wanted}); do not trust where it came from, or have it saved again with tensors only</source>
            <translation>{path} wird abgelehnt: Außer Tensoren enthält es etwas, das beim Lesen Code ausführen könnte ({wanted}); trauen Sie seiner Herkunft nicht, oder lassen Sie es nur mit Tensoren neu speichern</translation>
        </message>
        <message>
            <source>{path} was changed, and not all of it can be used: {said}. In place of that stays what this window has; {kept}.</source>
            <translation>{path} wurde geändert, und nicht alles darin ist brauchbar: {said}. An dessen Stelle bleibt, was dieses Fenster hat; {kept}.</translation>
        </message>
        <message>
            <source>{path}: got suffix {suffix}, expected {kinds}</source>
            <translation>{path}: Die Endung ist {suffix}, erwartet wird {kinds}</translation>
        </message>
        <message>
            <source>{path}: {key} is a tensor of {kind}, expected F32 or F16 as we write them: have the model saved again as one of these</source>
            <translation>{path}: {key} ist ein Tensor aus {kind}, erwartet wird F32 oder F16, wie wir sie schreiben: Lassen Sie das Modell noch einmal als eines davon speichern</translation>
        </message>
        <message>
            <source>{path}: {part}.{key} is a {kind}, expected a name and a tensor</source>
            <translation>{path}: {part}.{key} ist ein {kind}, erwartet wird ein Name und ein Tensor</translation>
        </message>
        <message>
            <source>{percent:.0f} %</source>
            <translation>{percent:.0f} %</translation>
        </message>
        <message>
            <source>{place} is a link, which the token of control from outside cannot be: remove it</source>
            <translation>{place} ist eine Verknüpfung, und das darf das Token der Steuerung von außen nicht sein: Entfernen Sie sie</translation>
        </message>
        <message>
            <source>{precision} (measured to be the fastest here)</source>
            <translation>{precision} (hier gemessen am schnellsten)</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies best)</source>
            <translation>{precision} (was er am besten multipliziert)</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies natively)</source>
            <translation>{precision} (was er von Haus aus multipliziert)</translation>
        </message>
        <message>
            <source>{problems}; and {number} more</source>
            <translation>{problems}; und {number} weitere</translation>
        </message>
        <message>
            <source>{rate_hz:g} per second</source>
            <translation>{rate_hz:g} pro Sekunde</translation>
        </message>
        <message>
            <source>{reason}; nothing else computes on {device}: use device cpu</source>
            <translation>{reason}; auf {device} rechnet nichts anderes: Verwenden Sie das Gerät cpu</translation>
        </message>
        <message>
            <source>{reason}; {lack}, so that nothing else computes: install it, or mend that</source>
            <translation>{reason}; {lack}, sodass nichts anderes rechnet: Installieren Sie es, oder beheben Sie das</translation>
        </message>
        <message>
            <source>{request} A second or two is enough (F).</source>
            <translation>{request} Ein bis zwei Sekunden genügen (F).</translation>
        </message>
        <message>
            <source>{request} The best frame of a second or two becomes the reference (F).</source>
            <translation>{request} Das beste Bild aus ein bis zwei Sekunden wird zur Referenz (F).</translation>
        </message>
        <message>
            <source>{score} of 100</source>
            <translation>{score} von 100</translation>
        </message>
        <message>
            <source>{score} of 100, as calibrated before</source>
            <translation>{score} von 100, wie zuvor kalibriert</translation>
        </message>
        <message>
            <source>{score}: {remarks}</source>
            <translation>{score}: {remarks}</translation>
        </message>
        <message>
            <source>{sentence} {fix}.</source>
            <translation>{sentence} {fix}.</translation>
        </message>
        <message>
            <source>{sentence} {fix}: {command}</source>
            <translation>{sentence} {fix}: {command}</translation>
        </message>
        <message>
            <source>{size_px} px, {millions:.2g} M parameters</source>
            <translation>{size_px} px, {millions:.2g} Mio. Parameter</translation>
        </message>
        <message>
            <source>{tip} Double-click the name, or press Backspace, for {words}.</source>
            <translation>{tip} Doppelklick auf den Namen oder die Rücktaste: {words}.</translation>
        </message>
        <message>
            <source>{tip} Times Expression.</source>
            <translation>{tip} Mal „Mimik“.</translation>
        </message>
        <message>
            <source>{tip} Times Motion.</source>
            <translation>{tip} Mal „Bewegung“.</translation>
        </message>
        <message>
            <source>{trouble} A call hears nothing meanwhile; it is tried again.</source>
            <translation>{trouble} Ein Anruf hört solange nichts; es wird wieder versucht.</translation>
        </message>
        <message>
            <source>{trouble} Recordings go on, and are silent meanwhile.</source>
            <translation>{trouble} Aufnahmen laufen weiter und sind solange stumm.</translation>
        </message>
        <message>
            <source>{value:6.1f}</source>
            <translation>{value:6.1f}</translation>
        </message>
        <message>
            <source>{way}: {reason}</source>
            <translation>{way}: {reason}</translation>
        </message>
        <message>
            <source>{what} cannot be used: {error}</source>
            <translation>{what} kann nicht verwendet werden: {error}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a list</source>
            <translation>{what} {key}: {value}, erwartet wird eine Liste</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a table of values</source>
            <translation>{what} {key}: {value}, erwartet wird eine Tabelle von Werten</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {allowed}</source>
            <translation>{what} {key}: {value}, erwartet wird {allowed}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {kind}</source>
            <translation>{what} {key}: {value}, erwartet wird {kind}</translation>
        </message>
        <message>
            <source>{what}.{name}: got {got}, expected a table</source>
            <translation>{what}.{name}: {got}, erwartet wird eine Tabelle</translation>
        </message>
        <message>
            <source>{what}.{name}: {complaint}</source>
            <translation>{what}.{name}: {complaint}</translation>
        </message>
        <message>
            <source>{what}: got {got}, expected a table of presets</source>
            <translation>{what}: {got}, erwartet wird eine Tabelle von Voreinstellungen</translation>
        </message>
        <message>
            <source>{where} does not hold the network it should: {problems}. Convert the original file again, or use another one</source>
            <translation>{where} enthält nicht das Netz, das es sollte: {problems}. Wandeln Sie die Originaldatei erneut um, oder verwenden Sie eine andere</translation>
        </message>
        <message>
            <source>{where}: {key} holds NaN or infinite values, expected finite weights; if a training run diverged, use an earlier checkpoint of it</source>
            <translation>{where}: {key} enthält NaN oder unendliche Werte, erwartet werden endliche Gewichte; falls ein Training divergiert ist, verwenden Sie einen früheren Checkpoint davon</translation>
        </message>
        <message>
            <source>{where}: {key} is a {kind} tensor, expected plain floating point</source>
            <translation>{where}: {key} ist ein Tensor der Art {kind}, erwartet wird einfaches Gleitkomma</translation>
        </message>
        <message>
            <source>{width_px} x {height_px}, {fps_hz:.0f} fps</source>
            <translation>{width_px} x {height_px}, {fps_hz:.0f} Bilder/s</translation>
        </message>
        <message>
            <source>{widths} (the encoder's, reversed) when lateral is false</source>
            <translation>{widths} (die des Encoders, umgekehrt), wenn lateral false ist</translation>
        </message>
        <message>
            <source>{words}.</source>
            <comment>a whole sentence</comment>
            <translation>{words}.</translation>
        </message>
        <message>
            <source>“AI avatar” badge</source>
            <translation>Abzeichen „AI avatar“</translation>
        </message>
    </context>
</TS>
